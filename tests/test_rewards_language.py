"""The language reward: whose words they are, and that nothing else is counted."""

import time
from functools import partial

import pytest

from r1lite.records import Problem, UserError
from r1lite.rewards import language_consistency, language_reward

TEXTS = {
    "en": "we multiply both numbers and compare the result with the target",
    "zh": "我们先把两个数相乘 然后比较结果",
    "ru": "сначала умножим оба числа и сравним результат с целью",
    "ar": "نضرب العددين أولا ثم نقارن النتيجة مع الهدف",
    "hi": "पहले हम दोनों संख्याओं को गुणा करते हैं और परिणाम देखते हैं",
    "ko": "먼저 두 수를 곱하고 결과를 목표와 비교합니다",
    "ja": "まずふたつのかずをかけて けっかをくらべます",
}
FRENCH = "nous multiplions les deux nombres et nous comparons le résultat avec la cible"


def share(text: str, language: str, *among: str) -> float | None:
    return (
        language_consistency(text, language, among)
        if among
        else language_consistency(text, language)
    )


@pytest.mark.parametrize("language", TEXTS)
def test_a_text_is_wholly_in_its_own_language(language):
    assert share(TEXTS[language], language, *TEXTS) == 1.0
    assert share(TEXTS[language], language) == 1.0


@pytest.mark.parametrize("language", [name for name in TEXTS if name != "en"])
def test_scripts_are_told_apart(language):
    assert share(TEXTS["en"], language, "en", language) == 0.0
    assert share(TEXTS[language], "en", "en", language) == 0.0
    mixed = share(f"{TEXTS['en']} . {TEXTS[language]}", "en", "en", language)
    assert mixed == pytest.approx(1 - share(f"{TEXTS['en']} . {TEXTS[language]}", language))
    assert 0.2 < mixed < 0.8


def test_chinese_and_japanese_share_characters_but_not_kana():
    assert share("東京大学", "zh") == share("東京大学", "ja") == 1.0
    assert share(TEXTS["ja"], "zh") == 0.0


def test_languages_of_one_script_are_told_by_their_sentences():
    both = ("en", "fr")
    assert share(TEXTS["en"], "en", *both) == 1.0 and share(TEXTS["en"], "fr", *both) == 0.0
    assert share(FRENCH, "fr", *both) == 1.0 and share(FRENCH, "en", *both) == 0.0
    n_en, n_fr = len(TEXTS["en"].split()), len(FRENCH.split())
    text = f"{TEXTS['en']} . {FRENCH} ."
    assert share(text, "en", *both) == pytest.approx(n_en / (n_en + n_fr))
    assert share(text, "fr", *both) == pytest.approx(n_fr / (n_en + n_fr))


def test_a_short_sentence_counts_as_the_one_before_it():
    """No detector can tell three words: they follow the sentence that they stand behind."""
    both = ("en", "fr")
    assert share(f"{FRENCH} . oui , bien .", "fr", *both) == 1.0
    assert share("so , well .", "en", *both) == share("so , well .", "fr", *both) == 1.0


def test_without_a_rival_no_word_of_the_script_is_doubted():
    assert share(FRENCH, "en") == 1.0


@pytest.mark.parametrize(
    "nothing",
    [
        "", " \n ", "3 + 4 = 7 , 7 * 2 = 14", "x y z", "f ( x ) = 3", "$the answer is$",
        "$$the answer\nis$$", r"\(the answer is\)", r"\[the answer is\]", r"\frac \text \alpha",
        "`the answer is`", "```\nthe answer\nis\n```", "<think> </think> <b>", "vs return",
        "https://example.org/the/answer/is/here", "http://example.org/the_answer", "١٢٣ १२३",
        ". , ; : ! ? … — 。 ，", "🙂 🙂", "\u200b\u200d",
    ],
)  # fmt: skip
def test_what_is_no_word(nothing):
    """Alone it has no language; beside words of another language it changes nothing."""
    assert share(nothing, "en") is None and share(nothing, "zh") is None
    assert share(f"我们先试 {nothing} 再检查", "en") == 0.0
    assert share(f"we try first {nothing} and check", "en") == 1.0
    assert share(f"we try {nothing} 我们", "en") == pytest.approx(2 / 3)


UNLISTED = {
    "Bengali": "আমরা প্রথমে দুটি সংখ্যা গুণ করি এবং ফলাফল দেখি",
    "Tamil": "நாம் முதலில் இரண்டு எண்களை பெருக்கி முடிவை பார்க்கிறோம்",
    "Telugu": "మనం ముందుగా రెండు సంఖ్యలను గుణించి ఫలితాన్ని చూస్తాము",
    "Georgian": "ჯერ ორივე რიცხვს ვამრავლებთ და შედეგს ვადარებთ",
    "Armenian": "նախ բազմապատկում ենք երկու թվերը և համեմատում արդյունքը",
    "Amharic": "መጀመሪያ ሁለቱን ቁጥሮች እናባዛለን ከዚያ ውጤቱን እናወዳድራለን",
    "Khmer": "យើងគុណលេខទាំងពីរជាមុនសិនហើយប្រៀបធៀបលទ្ធផល",
    "Burmese": "ပထမဆုံးဂဏန်းနှစ်လုံးကိုမြှောက်ပြီးရလဒ်ကိုနှိုင်းယှဉ်ပါ",
    "Lao": "ພວກເຮົາຄູນສອງຕົວເລກກ່ອນແລ້ວປຽບທຽບຜົນໄດ້ຮັບ",
    "signs for formulas": "𝐰𝐞 𝐦𝐮𝐥𝐭𝐢𝐩𝐥𝐲 𝐛𝐨𝐭𝐡 𝐧𝐮𝐦𝐛𝐞𝐫𝐬 𝐚𝐧𝐝 𝐜𝐨𝐦𝐩𝐚𝐫𝐞",
}


@pytest.mark.parametrize("script", UNLISTED)
@pytest.mark.parametrize("language", ["en", "zh", "ru"])
def test_words_of_a_script_that_no_language_here_has_count_too(script, language):
    """A script that is not counted could be thought in for free: all else was 1.0 then."""
    own = {"en": "we try", "zh": "我们试", "ru": "мы пробуем"}[language]
    assert share(own, language) == 1.0
    assert share(UNLISTED[script], language) == 0.0
    assert share(f"{own} . " + f"{UNLISTED[script]} . " * 20, language) < 0.05
    once = share(f"{own} . {UNLISTED[script]}", language)
    assert 0.05 < once < 0.7, "and not more than there is of them"


@pytest.mark.parametrize("language", ["ru", "en"])
def test_leaving_out_the_spaces_does_not_make_one_word_of_a_thought(language):
    foreign = TEXTS["en" if language == "ru" else "ru"]
    own = TEXTS[language].split()[0]
    assert share(f"{own} {foreign.replace(' ', '') * 20}", language) < 0.05


@pytest.mark.parametrize(
    "wrap", ["`{}`", "```{}```", "```\n{}\n```", "${}$", "$${}$$", r"\({}\)", r"\[{}\]",
             "https://example.org/{}", "<{}>", r"$\text{{{}}}$"],
)  # fmt: skip
@pytest.mark.parametrize("foreign", ["我们先把两个数相乘", "сначала", "আমরা", "नमस्ते"])
def test_what_is_said_in_code_and_formulas_is_said(wrap, foreign):
    """Else a model could think in another language between backticks."""
    hidden = wrap.format(foreign)
    assert share(f"we try {hidden}", "en") == share(f"we try {foreign}", "en") < 1.0
    assert share(hidden, "en") == 0.0


def test_a_phrase_in_code_is_one_in_chinese_too_and_code_is_not():
    """Latin letters are what code is written in; a sentence of them is another matter."""
    sentence = "`so we think in english all the way`"
    assert share(f"我们试 {sentence}", "zh") == pytest.approx(1 / 9)
    assert share("我们试 `for i in range(3): print(i)`", "zh") == 1.0
    assert share(r"我们试 $\frac{1}{2} \text{area} = ab \sin x$", "zh") == 1.0
    assert share("我们试 `我们 print`", "zh") == 1.0
    assert share(f"我们 {sentence}", "en") == 0.0, "nobody earns words by code"


@pytest.mark.parametrize(
    "piece",
    ["\\(", "\\[", "\\( a", "\\[ \\(", "```", "`", "``` `", "$", "$$", "<a", "</", "https://",
     "\\a", "aa ", "a", "我", "আমরা "],
)  # fmt: skip
@pytest.mark.parametrize("around", ["{}", "`{}", "`{}`", "\\({}"])
def test_a_long_text_takes_no_long_time(piece, around):
    """64,000 signs of the worst. One regular expression holds up the whole run while it works, and
    grew with the square: 8,000 openings of a formula took 0.6 s, this many took 10 s."""
    text = around.format(piece * (64_000 // len(piece)))
    begun = time.perf_counter()
    share(text, "en"), share(text, "zh")
    assert time.perf_counter() - begun < 4


@pytest.mark.parametrize("language", ["xx", "", "EN", "english", "e", "en fr"])
def test_an_unknown_language_is_refused_by_name(language):
    with pytest.raises(UserError, match=f"language {language!r} is unknown.*en.*zh"):
        language_consistency("we try", language)


@pytest.mark.parametrize(
    ("text", "language", "value"),
    [
        ("try 3 + 4 = 7 left 2 : 7 * 2 = 14 vs 14 yes .", "en", 1.0),
        ("try 3 + 4 = 7 left 2 : 7 * 2 = 14 vs 14 yes .", "zh", 0.0),
        ("试 3 + 4 = 7 余 2 : 7 * 2 = 14 vs 14 对 。", "zh", 1.0),
        ("试 3 + 4 = 7 余 2 : 7 * 2 = 14 vs 14 对 。", "en", 0.0),
        ("try 3 + 4 = 7 vs 8 , 等 , wait", "en", 2 / 3),
        ("try 3 + 4 = 7 vs 8 , 等 , wait", "zh", 1 / 3),
        ("试 3 + 4 = 7 vs 8 , 等等 , wait , 检查", "zh", 3 / 4),
        ("return x * 2 + 3 so f ( 1 ) = 5 yes", "en", 1.0),
        ("A knight , B knave , C knight", "en", 1.0),
        ("A 骑士 , B 无赖 , C knight", "zh", 2 / 3),
    ],
)
def test_texts_of_the_tiny_world_are_measured_as_before(text, language, value):
    """Recorded figures were taken with these values: a new word rule must not move them."""
    assert share(text, language) == pytest.approx(value)


def problem(language: str) -> Problem:
    return Problem("p", "countdown", "c", language, "q", {})


def reward(text: str, language: str = "en") -> float | None:
    return language_reward(["q"], [text], problem=[problem(language)])[0]


def test_only_the_think_block_is_read():
    for final in ("b", "the answer is here", "答案 是 六", "$x$", "我们 的 答案 在 这里 " * 50):
        assert reward(f"<think> we try 我们 </think> <answer> {final} </answer>") == pytest.approx(
            2 / 3
        )
        assert reward(f"<think> 3 + 4 </think> <answer> {final} </answer>") is None


def test_each_question_has_its_own_language():
    text = "<think> we try 我们 </think> <answer> b </answer>"
    problems = [problem("en"), problem("zh")]
    assert language_reward(["q"] * 2, [text] * 2, problem=problems) == pytest.approx([2 / 3, 1 / 3])
    with pytest.raises(ValueError):
        language_reward(["q"], [text], problem=problems)


@pytest.mark.parametrize(
    "text",
    [
        "we think in english",
        "<think> we think in english",
        "<think> we think in english </think>",
        "<think> we think </think> <answer> b </answer> so",
        "<think> </think> <answer> the answer </answer>",
        "<think> we think </think> <think> we think </think> <answer> b </answer>",
        "",
    ],
)
def test_outside_the_format_it_pays_nothing(text):
    assert reward(text) == 0.0


def test_the_length_of_a_thought_does_not_matter():
    for n in (1, 10, 1000):
        assert reward(f"<think> {'we try ' * n}</think> <answer> b </answer>") == 1.0
        assert reward(f"<think> {'we 我们 ' * n}</think> <answer> b </answer>") == 0.5


def test_the_languages_of_a_reward_can_be_chosen():
    thought = "alors on résout cette équation . then we check the result"
    text = f"<think> {thought} </think> <answer> 1 </answer>"
    problem = [Problem("p", "maths", "c", "fr", "q", {})]
    reward = partial(language_reward, among=("fr", "en"))
    (told,) = reward(prompts=["q"], completions=[text], problem=problem)
    (doubted_by_nobody,) = language_reward(["q"], [text], problem=problem, among=("fr",))
    assert told == language_consistency(thought, "fr", ("fr", "en")) == 0.5
    assert doubted_by_nobody == 1.0
