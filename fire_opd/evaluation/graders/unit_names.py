"""Names of units and of large numbers, as answers write them."""

from fractions import Fraction

_NAMES = """
meter: m metre; centimeter: cm centimetre; millimeter: mm millimetre; kilometer: km kilometre; decimeter: dm decimetre
micrometer: μm; nanometer: nm; inch: in inches; foot: ft feet; yard: yd; mile: mi
gram: g gm; kilogram: kg kilo; milligram: mg; ton: tonne; pound: lb lbs; ounce: oz
second: s sec; millisecond: ms; minute: min; hour: h hr; day: ; week: wk; month: ; year: yr
liter: L l litre; milliliter: mL ml millilitre; gallon: gal; cc:
dollar: usd; cent: ; euro: eur; yen: jpy; rupee: rs inr; percent: pct percentage
degree: deg; celsius: ; fahrenheit: ; kelvin: K; radian: rad
newton: N; joule: J; kilojoule: kJ; watt: W; kilowatt: kW; volt: V; ampere: A amp; ohm: Ω; hertz: Hz; pascal: Pa
mole: mol; coulomb: C; calorie: cal; mile/hour: mph; kilometer/hour: kmh kmph kph; am: ; pm:
米: 公尺; 厘米: ; 千米: 公里; 元: 块; 个: ; 人: ; 度: ; 岁: ; 天: ; 小时: ; 分钟: ; 秒:
千克: 公斤; 克: ; 平方米: ; 平方厘米: ; 立方米:
"""
UNITS: dict[str, str] = {}
"""A way to write a unit -> its name."""
for _entry in _NAMES.replace("\n", ";").split(";"):
    if _entry.strip():
        _name, _, _others = _entry.strip().partition(":")
        UNITS |= dict.fromkeys((_name, *_others.split()), _name)

LETTERS = {letter: name for letter, name in UNITS.items() if len(letter) == 1 and letter.isascii()}
"""Units of one letter, which elsewhere are variables."""

CURRENCIES = ("dollar", "euro", "pound", "yen", "rupee")
"""They may stand before the number."""

FACTORS = {
    "dozen": Fraction(12),
    "hundred": Fraction(100),
    "thousand": Fraction(1000),
    "million": Fraction(10**6),
    "billion": Fraction(10**9),
    "trillion": Fraction(10**12),
    "万": Fraction(10**4),
    "亿": Fraction(10**8),
}
"""Words that multiply the number before them."""


def unit_name(word: str) -> str | None:
    """The unit that a word names, in singular or plural; None where it names none."""
    for spelling in (word, word.lower(), word.lower().removesuffix("s")):
        if spelling in UNITS:
            return UNITS[spelling]
    return None
