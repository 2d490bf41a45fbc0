"""A command line made of settings models: arguments to checked settings, and the help."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from cyclopts import App, CycloptsError, Group, Parameter
from pydantic import BeforeValidator, ValidationError
from pydantic.fields import FieldInfo

from repairkit.errors import UsageError
from repairkit.run.settings import GROUPS, Settings

HELP_ALL = "--help-all"
RENAMED = {
    "t0": "min-live", "max-clean-drop": "max-accuracy-drop", "max-drop": "max-accuracy-drop", "spare": "max-other-class-drop",
    "narrow": "restrict-classes", "parts": "subsets", "annotations": "annotation-file", "per-class": "max-per-class",
    "contested": "flip-candidates", "top": "top-k", "ranking": "objective", "compare": "baselines", "carrier": "transfer-model",
    "elsewhere-root": "other-data-root", "attacked": "attack-images", "thorough": "effort full", "frontier": "max-curve-filters",
    "step": "step-size", "dropout-model": "compare-model", "dropout-weights": "compare-weights", "rival": "with-compare-model",
    "no-rival": "no-with-compare-model", "way": "variant", "freeze-only": "no-structural-pruning",
}  # fmt: skip
"""Old spellings of options, and how they are spelled now."""
REMOVED = dict.fromkeys(
    ("carried", "adaptive", "queries", "restarts", "apgd-steps", "apgd-classes", "checked"),
    "it is a key of attack.effort in a recipe; on the command line give --effort quick, standard or full",
) | {"stand-ins": "make stand-ins trains the networks that ship with repairkit"}
"""Options that are gone, and what to use instead."""
RENAMED_VALUES = {
    "score": {"smooth": "probability", "hard": "accuracy"},
    "freeze_at": {"post": "after-relu", "pre": "before-relu"},
    "strategy": {"prefix": "top-k"},
    "min_live": {"settled": "selected"},
    "objective": {
        "recall + source": "balanced", "success - accuracy": "balanced", "specific": "balanced", "recall": "target-only", "success": "target-only",
    },
}  # fmt: skip
"""Old values of options, and how they are spelled now."""


def flag_of(name: str, field: FieldInfo) -> str:
    """How a field is spelled on the command line; "" where it is given by its place."""
    spelled = _extra(field)["name"]
    if spelled is None:
        return "--" + name.replace("_", "-")
    return f"--{spelled}" if spelled else ""


def parse(model: type[Settings], arguments: Sequence[str]) -> Settings:
    """The settings that the arguments of a command give.

    Raises:
        UsageError: an option that is unknown or has another name now, or a value of another type or range.
    """
    _refuse_old(model, arguments)
    try:
        _, bound, _ = app_of("", model, hidden=True).parse_args(list(arguments), exit_on_error=False, print_error=False)
    except CycloptsError as error:
        raise UsageError(" ".join(str(error).splitlines())) from None
    return check(model, bound.arguments)


def check(model: type[Settings], given: dict[str, Any]) -> Settings:
    """Settings of these values.

    Raises:
        UsageError: the first of them that cannot be, with what is expected.
    """
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise UsageError(_in_words(model, error)) from None


def show_help(name: str, model: type[Settings], *, hidden: bool) -> None:
    """The help of a command on stdout; with `hidden` also the options that are seldom needed."""
    app_of(name, model, hidden=hidden).help_print([])
    print("\n".join(["Examples:", *(f"  {line}" for line in model.examples)]))  # noqa: T201
    if not hidden and not all(_extra(field)["shown"] for field in model.model_fields.values()):
        print(f"\nrepairkit {name} {HELP_ALL} also shows the options that are seldom needed.")  # noqa: T201


def arguments_of(settings: Settings, *, exclude: Sequence[str] = ()) -> list[str]:
    """The options that were given, as they are typed, without positional ones."""
    typed: list[str] = []
    for name, field in type(settings).model_fields.items():
        flag = flag_of(name, field)
        if name not in settings.model_fields_set or name in exclude or not flag:
            continue
        value = getattr(settings, name)
        if isinstance(value, bool):
            typed.append(flag if value else flag.replace("--", "--no-", 1))
        else:
            typed += [flag, ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    return typed


def app_of(name: str, model: type[Settings], *, hidden: bool) -> App:
    """The command of a model; it is only parsed, never called."""

    def command(*_: Any, **__: Any) -> None:
        """Take what cyclopts binds."""

    parameters = [_parameter(key, field, hidden=hidden) for key, field in model.model_fields.items()]
    command.__signature__ = inspect.Signature(sorted(parameters, key=lambda parameter: parameter.kind))  # type: ignore[attr-defined]
    about = inspect.cleandoc(model.__doc__ or "")
    app = App(name=f"repairkit {name}".strip(), help=about, help_format="plaintext", version_flags=[])
    app["--help"].group = Group("Run")
    app.default(command)
    return app


def _parameter(key: str, field: FieldInfo, *, hidden: bool) -> inspect.Parameter:
    extra, flag = _extra(field), flag_of(key, field)
    switch = field.annotation is bool and field.default is False
    settings: dict[str, Any] = {
        "help": _described(field),
        "group": Group(extra["group"], sort_key=GROUPS.index(extra["group"])),
        "show": hidden or extra["shown"],
        "show_default": False,
        "allow_repeating": True,  # the last one counts
    }
    if flag:
        settings["name"] = flag
    if switch or field.annotation not in (bool, bool | None):
        settings["negative"] = ""
    kind = inspect.Parameter.KEYWORD_ONLY if flag else inspect.Parameter.POSITIONAL_ONLY
    default = inspect.Parameter.empty if field.is_required() else None
    typed = _plain(field) if field.is_required() else _plain(field) | None
    return inspect.Parameter(key, kind, default=default, annotation=Annotated[typed, Parameter(**settings)])


def _described(field: FieldInfo) -> str:
    """The help of an option with its default, unless the help states it."""
    text = field.description or ""
    told = "[default" in text or field.annotation is bool or field.is_required() or field.default in (None, [])
    return text if told else f"{text} [default: {field.default}]"


def _plain(field: FieldInfo) -> Any:
    """The type for cyclopts: text where pydantic reads the text itself."""
    annotation: Any = field.annotation
    if get_origin(annotation) in (Union, UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
        annotation = kinds[0] if len(kinds) == 1 else str
    reads_text = get_origin(annotation) in (Annotated, tuple) or any(isinstance(entry, BeforeValidator) for entry in field.metadata)
    return str if reads_text else annotation


def _extra(field: FieldInfo) -> dict[str, Any]:
    extra = field.json_schema_extra
    return dict(extra) if isinstance(extra, dict) else {}


def _refuse_old(model: type[Settings], arguments: Sequence[str]) -> None:
    """Refuse old spellings of options and of their values.

    Raises:
        UsageError: there is one; the message has the new spelling.
    """
    known = {flag_of(name, field): name for name, field in model.model_fields.items()}
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=False):
        spelled, assigned, value = argument.partition("=")
        value = value if assigned else following
        if new_value := RENAMED_VALUES.get(known.get(spelled, ""), {}).get(value):
            raise UsageError(f"{spelled} {value} is now spelled {spelled} {new_value}")
        old = spelled.removeprefix("--")
        if not spelled.startswith("--") or spelled in known:
            continue
        new = f"--{RENAMED[old]}" if old in RENAMED else ""
        if new and new.partition(" ")[0].replace("--no-", "--") in known:
            raise UsageError(f"{spelled} is now spelled {new}")
        if old in REMOVED:
            raise UsageError(f"{spelled} is gone: {REMOVED[old]}")


def _in_words(model: type[Settings], error: ValidationError) -> str:
    first = error.errors()[0]
    if not first["loc"]:
        return first["msg"].removeprefix("Value error, ")
    name = str(first["loc"][0])
    field = model.model_fields[name]
    flag = flag_of(name, field) or name
    if first["type"] == "missing":
        return f"give {flag}: {field.description}"
    value = first["input"]
    expected = _extra(field)["expected"]
    if expected:
        return f"expected {flag} to be {expected}, got {value!r}"
    return f"expected {flag} to be {first['msg'].removeprefix('Input should be ').removeprefix('Value error, ')}, got {value!r}"
