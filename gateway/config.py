"""From a configuration file to settings that may be started, or to every fault at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from gateway.config_checks import advice, price_problems, read_accounts, relations
from gateway.config_errors import (
    ConfigurationError,
    ConfigurationProblem,
    ConfigurationWarning,
    KeyPath,
    is_secret,
    problems_of,
)
from gateway.config_file import read_document
from gateway.settings import Settings
from providers.capability import Route
from providers.contract import ProviderPlugin, ProviderSettings


@dataclass(frozen=True, slots=True)
class Configuration:
    """Settings that hold together, each provider's own by its name, the routes, and what the operator should know."""

    settings: Settings
    accounts: Mapping[str, ProviderSettings]
    routes: tuple[Route, ...]
    warnings: tuple[ConfigurationWarning, ...]


def load(
    file: Path, *, environment: Mapping[str, str], plugins: Mapping[str, ProviderPlugin], at: float
) -> Configuration:
    """Read, fill in and check a configuration file as of `at` (unix seconds), when prices must be in force.

    Raises ConfigurationError with every fault found.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(str(file), [ConfigurationProblem((), f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(str(file), [ConfigurationProblem((), "is not UTF-8 text")]) from error
    return load_text(text, str(file), environment=environment, plugins=plugins, at=at)


def load_text(
    text: str, source: str, *, environment: Mapping[str, str], plugins: Mapping[str, ProviderPlugin], at: float
) -> Configuration:
    """Like `load`, for a text at hand; `source` names it in errors."""
    document = read_document(text, source, environment, lambda path: _is_secret(path, plugins))
    problems: Sequence[ConfigurationProblem]
    try:
        configuration = check(Settings.model_validate(document.values), plugins, at=at)
        if not document.problems:
            return configuration
        problems = ()
    except ValidationError as error:
        problems = [*problems_of(error, Settings), *read_accounts(document.values.get("providers"), plugins).problems]
    except ConfigurationError as error:
        problems = error.problems
    # What could not be filled in is said once; what the settings make of the gap is not worth a second line.
    gaps = {problem.path for problem in document.problems}
    found = [*document.problems, *(problem for problem in problems if problem.path not in gaps)]
    placed = [replace(problem, line=problem.line or document.line(problem.path)) for problem in found]
    raise ConfigurationError(source, sorted(placed, key=lambda problem: problem.line or 0))


def _is_secret(path: KeyPath, plugins: Mapping[str, ProviderPlugin]) -> bool:
    """Whether a setting is a secret: one of ours, or of the provider whose section it stands in."""
    if path[0] == "providers" and len(path) > 1:
        plugin = plugins.get(str(path[1]))
        return plugin is not None and is_secret(plugin.settings, path[2:])
    return is_secret(Settings, path)


def check(settings: Settings, plugins: Mapping[str, ProviderPlugin], *, at: float) -> Configuration:
    """Check settings as a whole as of `at` (unix seconds). Raises ConfigurationError with every fault."""
    accounts = read_accounts(settings.providers, plugins)
    problems = [*accounts.problems, *relations(settings)]
    problems += price_problems(settings, [route.name for route in accounts.routes], at)
    if problems:
        raise ConfigurationError("settings", problems)
    return Configuration(settings, accounts.settings, accounts.routes, advice(settings, accounts.routes))
