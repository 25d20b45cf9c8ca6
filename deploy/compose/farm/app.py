"""A farm of Python tools, as anybody would write one with FastAPI: it knows nothing of MCP."""

import os
from datetime import date
from typing import Annotated, Literal

from fastapi import FastAPI, HTTPException, Path, Query
from pydantic import BaseModel, Field

app = FastAPI(title=os.environ.get("FARM_NAME", "farm"), version="1.0")

FIELDS: dict[str, "Plot"] = {}


class Sowing(BaseModel):
    crop: Literal["barley", "oats", "rye"]
    hectares: float = Field(gt=0, le=10_000)
    sown: date | None = None


class Plot(Sowing):
    name: str


class Harvest(BaseModel):
    field: str
    tonnes: float


@app.get("/fields", operation_id="list_fields")
def list_fields(crop: Annotated[str | None, Query(description="Only fields of this crop")] = None) -> list[Plot]:
    """All fields."""
    return [field for field in FIELDS.values() if crop in (None, field.crop)]


@app.put("/fields/{name}", operation_id="put_field", status_code=201)
def put_field(name: Annotated[str, Path(max_length=64)], sowing: Sowing) -> Plot:
    """Adds a field, or changes one."""
    FIELDS[name] = Plot(name=name, **sowing.model_dump())
    return FIELDS[name]


@app.post("/fields/{name}/harvest", operation_id="harvest")
def harvest(name: str) -> Harvest:
    """Harvests a field: it is gone afterwards."""
    field = FIELDS.pop(name, None)
    if field is None:
        raise HTTPException(404, f"there is no field {name}")
    return Harvest(field=name, tonnes=round(field.hectares * {"barley": 6.5, "oats": 5.0, "rye": 5.5}[field.crop], 1))
