"""Where a run's data set goes on the Hub, checked before anything expensive starts."""

from exptilt.config.publishing import Publishing
from exptilt.config.settings import Config
from exptilt.data import hub_repository
from exptilt.data.hub_repository import Repository


def repository_of(config: Config) -> Repository | None:
    """The repository that the data set of `config` goes to; None where it goes to none."""
    if not isinstance(config, Publishing) or not config.push_to:
        return None
    return Repository(
        name=config.push_to,
        license=config.push_license,
        languages=config.push_language,
        public=config.push_public,
    )


def check(config: Config) -> None:
    """Raise ConfigError where the Hub would not take the data set of `config`."""
    if to := repository_of(config):
        hub_repository.check(to)
