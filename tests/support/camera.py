"""A camera for a browser that has none."""

# Debian's Chromium finds no camera without one, not even its own false one; what a camera sees is drawn.
CAMERA = """(matrix) => {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 480;
    const pen = canvas.getContext("2d");
    const side = 480 / matrix.length;
    const draw = () => {
        pen.fillStyle = "#d8d4cc";
        pen.fillRect(0, 0, 480, 480);
        pen.fillStyle = "#1c1a19";
        matrix.forEach((row, y) => row.forEach((dark, x) => {
            if (dark) pen.fillRect(x * side, y * side, side + 0.5, side + 0.5);
        }));
    };
    setInterval(draw, 100);
    navigator.mediaDevices.getUserMedia = async () => canvas.captureStream(10);
}"""
