"""The settings of putting a finished data set on the Hugging Face Hub."""

import re
from typing import Final, Self

from pydantic import BaseModel, Field, model_validator

from exptilt.config.field_types import Names
from exptilt.errors import ConfigError

LANGUAGE: Final = r"[a-z]{2,3}|code|multilingual"
LICENSE: Final = r"[a-z0-9][a-z0-9.+-]*"
REPOSITORY: Final = r"[\w.-]+/[\w.-]+"


class Publishing(BaseModel):
    """What a run that makes a data set may do with it at last."""

    push_to: str = Field(
        default="",
        description="put the data set on the Hugging Face Hub as ORG/NAME, private unless --push-public; the "
        "token is that of HF_TOKEN or of hf auth login",
    )
    push_license: str = Field(
        default="", description="its license on the Hub: apache-2.0, cc-by-4.0, other, ..."
    )
    push_language: Names = Field(
        default=(), description="the language of its texts on the Hub: en, or several as en,de"
    )
    push_public: bool = Field(default=False, description="make its repository on the Hub public")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.push_to:
            check(self.push_to, self.push_license, self.push_language, "--push-")
        elif self.push_license or self.push_language or self.push_public:
            raise ConfigError("--push-license, --push-language and --push-public are of --push-to ORG/NAME")
        return self


PUSHING: Final = frozenset(Publishing.model_fields)


def check(name: str, license_id: str, languages: tuple[str, ...], flag: str) -> None:
    """Raise ConfigError unless a repository's name, its license and its languages are as the Hub has them.

    Args:
        name: as ORG/NAME.
        license_id: an id of the Hub's.
        languages: their codes.
        flag: how the flags begin.
    """
    if not re.fullmatch(REPOSITORY, name) or ".." in name or "--" in name:
        raise ConfigError(f"{name!r} is no repository of the Hub: write ORG/NAME, of letters, digits and -_.")
    if not re.fullmatch(LICENSE, license_id):
        given = f" {license_id}" if license_id else ""
        raise ConfigError(f"{flag}license{given}: name its license, as apache-2.0, cc-by-4.0 or other")
    unknown = [code for code in languages if not re.fullmatch(LANGUAGE, code)]
    if unknown or not languages:
        given = f" {','.join(unknown)}" if unknown else ""
        raise ConfigError(f"{flag}language{given}: name the language of its texts: en, or several as en,de")
