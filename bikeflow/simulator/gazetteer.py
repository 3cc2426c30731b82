"""The simulated city's map: districts with rough centres, and the names that stations get.

Streets and districts are Wrocław's, so that the demo reads like the real thing; where the stations stand, what they
are called and how large they are is made up.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from itertools import combinations

from bikeflow.simulator.rhythm import Area

Place = tuple[float, float]

# A depot in another city, far outside the service area, where hundreds of real bikes once stood side by side.
WARSAW: Place = (52.2809, 21.0121)


@dataclass(frozen=True, slots=True)
class District:
    """A part of the city: centre in degrees, radius in kilometres, share of the stations, streets."""

    name: str
    lat: float
    lon: float
    radius_km: float
    area: Area
    weight: int
    streets: str

    def names(self, rng: random.Random) -> list[str]:
        """All station names of the district in random order: crossings, sights, and quoting trouble of every kind."""
        streets = self.streets.split(", ")
        names = [f"{one} / {other}" for one, other in combinations(streets, 2)]
        for street in streets:
            names += [f"{street} ({sight})" for sight in rng.sample(SIGHTS, 2)]
            names.append(f"{street}, {rng.choice(SIDES)}")
        names += [f"„{nickname}” {street}" for nickname, street in zip(rng.sample(NICKNAMES, 2), streets, strict=False)]
        names.append(f'{streets[-1]} "{rng.choice(NICKNAMES)}"')
        rng.shuffle(names)
        return names

    def place(self, rng: random.Random) -> Place:
        """A random point in the district's circle, likelier near its centre."""
        return around((self.lat, self.lon), self.radius_km * rng.random(), rng.random())


def around(centre: Place, distance_km: float, turn: float) -> Place:
    """The point that lies `distance_km` from `centre` in a direction (0–1 is a full turn), to six decimals."""
    lat, lon = centre
    angle = math.tau * turn
    north = distance_km / 111.2 * math.cos(angle)
    east = distance_km / (111.2 * math.cos(math.radians(lat))) * math.sin(angle)
    return round(lat + north, 6), round(lon + east, 6)


SIGHTS = (
    "kościół", "pętla tramwajowa", "szkoła", "żłobek", "przychodnia", "biblioteka", "plac zabaw", "park",
    "targowisko", "poczta", "kładka", "basen", "akademik", "dom kultury", "wieża ciśnień", "zajezdnia",
    "P&R", "PWr - Geocentrum", "kościół św. Antoniego",
)  # fmt: skip
SIDES = ("północ", "południe", "wschód", "zachód", "przy moście", "strona parzysta")
NICKNAMES = (
    "Żółta Łódka", "Pod Zegarem", "Stary Młyn", "Śpiący Krasnal", "Źródełko", "Ćma", "Zielony Żuraw", "Pod Dębami",
    "Gęsia Szyja", "Księżyc", "Łabędź", "Ósemka",
)  # fmt: skip
DISTRICTS = (
    District("Stare Miasto", 51.110, 17.032, 0.9, Area.OFFICE, 30,
             "Świdnicka, Ruska, Oławska, Kuźnicza, Szewska, Podwale, Krupnicza, Łaciarska"),
    District("Przedmieście Świdnickie", 51.099, 17.025, 0.9, Area.OFFICE, 18,
             "Piłsudskiego, Kościuszki, Zielińskiego, Ślężna, Swobodna, Komandorska"),
    District("Plac Grunwaldzki", 51.112, 17.060, 0.9, Area.OFFICE, 18,
             "Piastowska, Szczytnicka, Norwida, Łukasiewicza, Smoluchowskiego, Reja"),
    District("Kleczków", 51.128, 17.035, 0.9, Area.HOME, 14,
             "Kleczkowska, Zegadłowicza, Jugosłowiańska, Siemieńskiego, Kraszewskiego"),
    District("Nadodrze", 51.120, 17.030, 0.7, Area.HOME, 20,
             "Łokietka, Pomorska, Chrobrego, Trzebnicka, Roosevelta, Paulińska, Słowiańska"),
    District("Wyspy i bulwary", 51.116, 17.038, 0.5, Area.LEISURE, 10,
             "Wyspa Słodowa, Bulwar Dunikowskiego, Świętokrzyska, Katedralna, Grodzka"),
    District("Przedmieście Oławskie", 51.101, 17.052, 0.9, Area.HOME, 16,
             "Traugutta, Komuny Paryskiej, Więckowskiego, Haukego-Bosaka, Prądzyńskiego, Żabia Ścieżka"),
    District("Szczytniki", 51.109, 17.079, 0.9, Area.LEISURE, 12,
             "Wystawowa, Mickiewicza, Kopernika, Różyckiego, Wróblewskiego"),
    District("Biskupin", 51.101, 17.105, 1.1, Area.HOME, 10,
             "Olszewskiego, Monte Cassino, Braci Gierymskich, Bacciarellego, Chełmońskiego"),
    District("Krzyki", 51.079, 17.012, 1.2, Area.HOME, 18,
             "Powstańców Śląskich, Krzycka, Sudecka, Racławicka, Jastrzębia, Ożynowa"),
    District("Park Południowy", 51.076, 17.005, 0.6, Area.LEISURE, 6,
             "Drukarska, Wiosenna, Januszowicka, Przestrzenna"),
    District("Gaj", 51.077, 17.047, 1.0, Area.HOME, 14,
             "Bardzka, Świeradowska, Spiska, Orzechowa, Działkowa"),
    District("Grabiszyn", 51.094, 16.990, 1.1, Area.HOME, 14,
             "Grabiszyńska, Inżynierska, Ostrowskiego, Bzowa, Klecińska"),
    District("Szczepin", 51.117, 17.008, 0.9, Area.HOME, 14,
             "Legnicka, Nabycińska, Głogowska, Litomska, Sokolnicza, Braniborska"),
    District("Popowice", 51.126, 16.990, 0.9, Area.HOME, 12,
             "Popowicka, Białowieska, Jelenia, Wejherowska, Bobrza"),
    District("Kozanów", 51.139, 16.966, 0.9, Area.HOME, 8,
             "Pilczycka, Kolista, Dokerska, Celtycka"),
    District("Pilczyce", 51.142, 16.945, 0.9, Area.LEISURE, 6,
             "Królewiecka, Maślicka, Lotnicza, Górnicza"),
    District("Nowy Dwór", 51.112, 16.958, 0.9, Area.HOME, 8,
             "Nowodworska, Żernicka, Strzegomska, Budziszyńska"),
    District("Muchobór", 51.101, 16.948, 1.2, Area.OFFICE, 12,
             "Fabryczna, Graniczna, Roździeńskiego, Śrubowa, Krzemieniecka"),
    District("Strachowice", 51.107, 16.884, 1.3, Area.OFFICE, 3,
             "Skarżyńskiego, Piotrkowska, Osiniecka"),
    District("Karłowice", 51.139, 17.038, 1.1, Area.HOME, 10,
             "Kasprowicza, Kromera, Przybyszewskiego, Kamieńskiego, Żmigrodzka"),
    District("Psie Pole", 51.146, 17.114, 1.2, Area.HOME, 8,
             "Krzywoustego, Kiełczowska, Gorlicka, Bierutowska"),
    District("Leśnica", 51.145, 16.871, 1.2, Area.HOME, 4,
             "Średzka, Skoczylasa, Trzmielowicka, Wschowska"),
    District("Ołtaszyn", 51.055, 17.028, 1.1, Area.HOME, 5,
             "Zwycięska, Grota-Roweckiego, Pszczelarska, Strączkowa"),
    District("Las Osobowicki", 51.153, 17.000, 0.9, Area.LEISURE, 4,
             "Osobowicka, Lipska, Pęgowska, Łużycka"),
)  # fmt: skip
