"""Class names that tell left from right, in the languages that data sets are named in.

A mirrored clip of such a class is one of another, so these data must not be flipped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Words for the two sides; a star stands for endings by gender, case or direction.
WORDS = (
    ("left leftward* lefthand*", "right rightward* righthand*"),
    ("clockwise cw", "counterclockwise ccw acw"),
    ("east eastward*", "west westward*"),
    ("port", "starboard"),
    ("links linke* linkshänd*", "rechts rechte* rechtshänd*"),
    ("uhrzeigersinn", "gegenuhrzeigersinn"),
    ("gauche*", "droite*"),
    ("izquierd*", "derech*"),
    ("horari* horári* horair*", "antihorari* antihorári* antihorair*"),
    ("aiguilles", "contreaiguilles"),
    ("sinistr*", "destr*"),
    ("orari*", "antiorari*"),
    ("esquerd*", "direit*"),
    ("esquerr*", "dret*"),
    ("stânga stanga", "dreapta"),
    ("vänster* vanster*", "höger* hoger*"),
    ("venstre*", "højre* høyre* hojre* hoyre*"),
    ("vasem* vasen*", "oike*"),
    ("lewo lewa lewy lewą lewej", "prawo prawa prawy prawą prawej"),
    ("vlevo levá levý leva levy doleva", "vpravo pravá pravý prava pravy doprava"),
    ("bal balra", "jobb jobbra"),
    ("sol sola soldan", "sağ sağa sağdan sag saga sagdan"),
    ("kiri", "kanan"),
    ("kaliwa*", "kanan*"),
    ("trái trai", "phải phai"),
    ("zuo", "you"),
    ("hidari", "migi"),
    ("лев* влев* налев*", "прав* вправ* направ*"),
    ("ліво* ліва* ліву вліво", "право* права* праву вправо"),
    ("αριστερ*", "δεξι*"),
)
PARTS = (  # of names in scripts whose words have no certain ends, and signs
    ("左", "右"),
    ("順時針 顺时针 時計回り", "逆時針 逆时针 反時計回り"),
    ("왼쪽 왼손 좌", "오른쪽 오른손 우"),
    ("시계", "반시계"),
    ("ซ้าย", "ขวา"),
    ("يسار", "يمين"),
    ("שמאל", "ימין"),
    ("बाएँ बाएं बायाँ बायां बाईं", "दाएँ दाएं दायाँ दायां दाईं"),
    ("← ⬅ ↺ ⟲ <-", "→ ➡ ↻ ⟳ ->"),
)
SWAPS = (  # which say a direction only where two names differ in nothing else
    *("l r", "lt rt", "lh rh", "e w", "ne nw", "se sw"),
    *("up down", "upward downward", "upwards downwards", "top bottom", "north south"),
    *("oben unten", "hoch runter", "haut bas", "arriba abajo", "su giù", "acima abaixo", "cima baixo"),
    *("вверх вниз", "上 下", "위 아래", "↑ ↓"),
)
NUMBER = re.compile(r"(?<![\w.])([+-]?)\s?(\d+)\s*(°|deg|degrees?|grad|o'?clock|uhr|h)?(?!\w)", re.IGNORECASE)


def sided_classes(names: Sequence[str]) -> tuple[str, ...]:
    """Class names, one or two as examples, that tell sides or directions apart; none if nothing does.

    Left and right, or turning one way and the other, need one name for each side, or one with both. Letters
    (turn_L, turn_R), up and down, and numbers (+90 and -90, 90 and 270 degrees, 3 and 9 o'clock) need two
    names that differ in nothing else: they also stand in "sit up" and "fall down".
    """
    words = {name: _words(name) for name in names}
    for one, other in WORDS:
        found = [[name for name in names if _has(words[name], side)] for side in (one, other)]
        if found[0] and found[1]:
            return tuple(dict.fromkeys((found[0][0], found[1][0])))
    for pair in PARTS:
        parts = [side.split() for side in pair]
        found = [[name for name in names if any(part in name for part in side)] for side in parts]
        if found[0] and found[1]:
            return tuple(dict.fromkeys((found[0][0], found[1][0])))
    known = {tuple(own): name for name, own in words.items()}
    for name, own in words.items():
        for swap in SWAPS:
            one, other = swap.split()
            if one in own and len(own) + len(one) > 2:
                mirrored = tuple(other if word == one else word for word in own)
                if mirrored in known:
                    return name, known[mirrored]
    return _mirrored_numbers(names)


def _words(name: str) -> list[str]:
    """The words of a name in lower case: turn_left, TurnLeft and "turn left" alike."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    name = re.sub(r"(counter|anti)[\s_-]*(?=clockwise)", "counter", name.lower())
    name = re.sub(r"\banti[\s_-]+", "anti", name)
    name = re.sub(r"gegen den (?=uhrzeigersinn)", "gegen", name)
    name = re.sub(r"inverse des (?=aiguilles)", "contre", name)
    return re.findall(r"[^\W\d_]+|[↑↓]", name)


def _has(words: Sequence[str], side: str) -> bool:
    return any(
        word.startswith(known[:-1]) if known.endswith("*") else word == known
        for known in side.split()
        for word in words
    )


def _mirrored_numbers(names: Sequence[str]) -> tuple[str, ...]:
    """Two names that are alike but for an angle and its mirror image."""
    places: dict[tuple[str, str], dict[int, str]] = {}
    for name in names:
        match = NUMBER.search(name)
        if match:
            rest = f"{name[: match.start()]}|{name[match.end() :]}".strip().lower()
            unit = (match[3] or "").lower()[:1]
            angle = int(match[2]) * (-1 if match[1] == "-" else 1)
            places.setdefault((rest, unit), {})[angle] = name
    for (_, unit), found in places.items():
        turn = 360 if unit in ("°", "d", "g") else 12 if unit else 0
        for angle, name in found.items():
            mirrored = turn - angle if turn and angle >= 0 else -angle
            if mirrored in found and mirrored != angle:
                return name, found[mirrored]
    return ()
