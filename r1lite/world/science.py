"""Science, multiple choice: four options about a fact that the base has read as a bare fact.

The split goes by fact: the fact of a held-out problem is read ("carbon number 6"), the
question about it never is, so a right answer shows use of knowledge, not recall of a quiz.
"""

from __future__ import annotations

import random
from functools import cache

from ..records import Problem

LETTERS = ("A", "B", "C", "D")
RELATIONS = {"number": "序数", "class": "类", "place": "位置", "state": "物态"}

_ELEMENTS = [
    "hydrogen/氢",
    "helium/氦",
    "lithium/锂",
    "beryllium/铍",
    "boron/硼",
    "carbon/碳",
    "nitrogen/氮",
    "oxygen/氧",
    "fluorine/氟",
    "neon/氖",
    "sodium/钠",
    "magnesium/镁",
    "aluminium/铝",
    "silicon/硅",
    "phosphorus/磷",
    "sulfur/硫",
    "chlorine/氯",
    "argon/氩",
    "potassium/钾",
    "calcium/钙",
]
_PLANETS = [
    "mercury/水星",
    "venus/金星",
    "earth/地球",
    "mars/火星",
    "jupiter/木星",
    "saturn/土星",
    "uranus/天王星",
    "neptune/海王星",
]
_CLASSES = {
    "mammal/哺乳类": "dog/狗 cat/猫 horse/马 whale/鲸 bat/蝙蝠 cow/牛 mouse/鼠",
    "bird/鸟类": "eagle/鹰 owl/猫头鹰 duck/鸭 penguin/企鹅 crow/乌鸦 goose/鹅",
    "fish/鱼类": "shark/鲨鱼 salmon/鲑鱼 carp/鲤鱼 tuna/金枪鱼 eel/鳗鱼",
    "insect/昆虫": "ant/蚂蚁 bee/蜜蜂 fly/苍蝇 beetle/甲虫 moth/飞蛾 wasp/黄蜂",
    "reptile/爬行类": "snake/蛇 lizard/蜥蜴 turtle/龟 crocodile/鳄鱼 gecko/壁虎",
}
_STATES = {
    "solid/固体": "iron/铁 ice/冰 stone/石 glass/玻璃 wood/木",
    "liquid/液体": "water/水 milk/奶 oil/油 honey/蜂蜜 rain/雨",
    "gas/气体": "air/空气 steam/蒸汽 methane/甲烷 ozone/臭氧 biogas/沼气",
    "plasma/等离子体": "lightning/闪电 sun/太阳 aurora/极光 star/恒星",
}


@cache
def knowledge() -> dict[str, tuple[str, str, str]]:
    """English name -> (Chinese name, relation, value as "en/zh" or a number)."""
    table = {}
    for relation, things in (("number", _ELEMENTS), ("place", _PLANETS)):
        for rank, pair in enumerate(things, start=1):
            en, zh = pair.split("/")
            table[en] = (zh, relation, f"{rank}/{rank}")
    for relation, groups in (("class", _CLASSES), ("state", _STATES)):
        for value, members in groups.items():
            for pair in members.split():
                en, zh = pair.split("/")
                table[en] = (zh, relation, value)
    return table


def clusters() -> tuple[str, ...]:
    """Every thing that there is a fact about."""
    return tuple(knowledge())


def _values(relation: str) -> list[str]:
    return sorted({value for _, r, value in knowledge().values() if r == relation})


def make(cluster: str, language: str, rng: random.Random) -> Problem:
    """One question about this thing, its value among three others in random order."""
    zh, relation, value = knowledge()[cluster]
    options = rng.sample([v for v in _values(relation) if v != value], 3) + [value]
    rng.shuffle(options)
    side = 0 if language == "en" else 1
    shown = [option.split("/")[side] for option in options]
    listed = " ".join(f"{letter} {option}" for letter, option in zip(LETTERS, shown))
    question = {
        "en": f"{relation} of {cluster} ? {listed} .",
        "zh": f"{zh} 的 {RELATIONS[relation]} ? {listed} 。",
    }[language]
    return Problem(
        problem_id=f"science/{cluster}/{'-'.join(shown)}/{language}",
        family="science",
        cluster=cluster,
        language=language,
        question=question,
        gold={"letter": LETTERS[options.index(value)], "options": shown, "thing": cluster},
    )


def check(problem: Problem, answer: str) -> bool:
    """True if the answer is exactly the right letter."""
    return answer.strip() == problem.gold["letter"]
