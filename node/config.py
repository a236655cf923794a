"""Settings: what an operator may set, read once at the start and passed down.

From `node.toml` in the data folder, then environment variables `CLINICMESH_…`, then the command line.
Unknown keys are errors with the key's name. Each name carries its unit.
"""

import os
import tomllib
from pathlib import Path
from typing import Any, Self

import platformdirs
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from node.errors import BadSettings

FILE_NAME = "node.toml"


class Settings(BaseSettings):
    """What an operator may set."""

    model_config = SettingsConfigDict(
        env_prefix="CLINICMESH_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    bind: str = "0.0.0.0"  # noqa: S104 - phones and peers on the clinic's network must reach it
    people_port: int = 8443
    local_port: int = 8480
    mesh_port: int = 8444
    setup_port: int = 8481  # plain HTTP, only while a phone is being added
    peers: list[str] = Field(default_factory=list)
    discovery: bool = True
    allow_public_peers: bool = False  # dial what is announced on the local network at public addresses
    replicate_every_s: float = 30.0
    forward_every_s: float = 15.0
    sweep_every_s: float = 60.0
    hold_hours: float = 72.0
    quota_gb: float = 50.0
    reserve_gb: float = 1.0
    max_upload_gb: float = 32.0
    unlock: str = ""  # where the passphrase comes from at the start: keyring, systemd or file:PATH
    unprotected: bool = False  # run with keys of patient data that lie open: demonstrations and tests only
    device_uploads_gb: float = 64.0
    uploads_gb: float = 256.0
    copies: int = 4
    second_look_hours: float = 24.0  # after a delivery; 0 for never
    uplink_kbit_s: float = Field(default=0.0, ge=0)  # to the PACS; 0 for as fast as it goes
    metered: bool = False  # ways out are paid by the byte: to the PACS urgent studies only, and the budget
    metered_mb_per_day: float = Field(default=0.0, ge=0)  # what routine studies may use of it
    metered_every_s: float = Field(default=900.0, ge=0)  # between meetings while nothing is new here

    @classmethod
    def load(cls, data_dir: Path, **given: Any) -> Self:
        """Read the settings of a data folder; what is `given` and not None wins.

        Raises:
            BadSettings: a key is unknown or a value is impossible; the text names the key.
        """
        from_file: dict[str, Any] = {}
        path = data_dir / FILE_NAME
        if path.exists():
            try:
                from_file = tomllib.loads(path.read_text(encoding="utf-8"))
            except tomllib.TOMLDecodeError:
                raise BadSettings(f"{FILE_NAME} is not TOML") from None
        try:
            in_environment = {key for key in from_file if f"CLINICMESH_{key.upper()}" in os.environ}
            of_file = {key: value for key, value in from_file.items() if key not in in_environment}
            return cls(**(of_file | {key: value for key, value in given.items() if value is not None}))
        except ValidationError as error:
            keys = ", ".join(sorted({".".join(map(str, e["loc"])) for e in error.errors()}))
            raise BadSettings(f"wrong or unknown setting: {keys}") from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what `load` gives first, the environment next; nothing else."""
        return init_settings, env_settings


def default_data_dir() -> Path:
    """Return `CLINICMESH_DATA`, or the place where this system keeps a user's data."""
    named = os.environ.get("CLINICMESH_DATA")
    return Path(named) if named else Path(platformdirs.user_data_dir("clinicmesh", appauthor=False))
