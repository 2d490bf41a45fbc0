"""What every record of a `result.json` is, and how one is read."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from repairkit.errors import DataError

Claim = Literal["better", "worse", "no claim"]
Model = TypeVar("Model", bound=BaseModel)


class Record(BaseModel):
    """A frozen record; unknown keys are errors, so a typo never passes silently."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def read_record(model: type[Model], path: Path) -> Model:
    """The JSON of a `result.json` as a model; for any kind, see `repairkit.experiments.report_kinds.read`.

    Raises:
        DataError: the file is missing, is no JSON, or does not fit the model.
    """
    try:
        return model.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"expected a result at {path}, found none; give the directory of a finished run") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"expected a result at {path}, could not read it ({error}); give the directory of a finished run") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DataError(f"{path} is not a result of this version: {where}: {first['msg']}; run the repair again") from None
