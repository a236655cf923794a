"""Draw the PNG icons of the app from icon.svg, with Chromium. Run it after a change of the drawing:

python scripts/icons.py
"""

from pathlib import Path

from playwright.sync_api import sync_playwright

ICONS = Path(__file__).parent.parent / "public" / "icons"
# A maskable icon is cut to any shape: the drawing stays within the inner four fifths, on a full ground.
DRAWINGS = {"icon-192": (192, False), "icon-512": (512, False), "maskable-512": (512, True)}


def page_for(svg: str, size: int, maskable: bool) -> str:
    """Return a page that shows the drawing in exactly `size` pixels."""
    ground = "#0f5f5c" if maskable else "transparent"
    inner = round(size * 0.8) if maskable else size
    return (
        f"<style>html,body{{margin:0;background:{ground}}}body{{width:{size}px;height:{size}px;display:grid;"
        f"place-items:center}}svg{{width:{inner}px;height:{inner}px;display:block}}</style>{svg}"
    )


def main() -> None:
    """Write the icons."""
    svg = (ICONS / "icon.svg").read_text()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for name, (size, maskable) in DRAWINGS.items():
            page = browser.new_page(viewport={"width": size, "height": size})
            page.set_content(page_for(svg, size, maskable))
            page.screenshot(path=ICONS / f"{name}.png", omit_background=True)
        browser.close()


if __name__ == "__main__":
    main()
