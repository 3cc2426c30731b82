"""Districts: areas of a city, from a GeoJSON file of the operator."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import shapely

from bikeflow.core.errors import ConfigError

_AREAS = ("Polygon", "MultiPolygon")


@dataclass(frozen=True)
class Districts:
    """Areas with their names, in the order of the file."""

    names: tuple[str, ...]
    areas: tuple[shapely.Geometry, ...]

    @classmethod
    def read(cls, path: Path, name: str) -> Districts:
        """The polygons of a GeoJSON FeatureCollection, by their property `name`; raises ConfigError."""
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            features = document["features"]
            names = tuple(_name(feature, name, path) for feature in features)
            areas = tuple(shapely.from_geojson(json.dumps(feature["geometry"])) for feature in features)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, shapely.errors.ShapelyError) as error:
            raise ConfigError(f"{path} is no GeoJSON FeatureCollection: {error}") from error
        for feature_name, area in zip(names, areas, strict=True):
            if area.geom_type not in _AREAS:
                raise ConfigError(f"{path}: {feature_name} is a {area.geom_type}; districts are polygons")
        if not names:
            raise ConfigError(f"{path} has no features")
        return cls(names, tuple(shapely.make_valid(area) for area in areas))

    def of(self, places: Mapping[str, tuple[float, float]]) -> dict[str, str]:
        """The district of each place (latitude, longitude): the first one that covers it; none where none does."""
        tree = shapely.STRtree(self.areas)
        ids = list(places)
        points = shapely.points([(lon, lat) for lat, lon in places.values()])
        found: dict[str, int] = {}
        for place, area in _pairs(tree.query(points, predicate="covered_by")):
            found[ids[place]] = min(area, found.get(ids[place], area))
        return {item: self.names[area] for item, area in found.items()}


def _pairs(found: Iterable[Iterable[int]]) -> Iterable[tuple[int, int]]:
    places, areas = found
    return zip(map(int, places), map(int, areas), strict=True)


def _name(feature: dict[str, dict[str, object]], name: str, path: Path) -> str:
    properties = feature["properties"] or {}
    if name not in properties:
        known = ", ".join(map(str, properties)) or "none"
        raise ConfigError(f"{path}: a feature has no property {name!r} (it has: {known}); see --district-name")
    return str(properties[name])
