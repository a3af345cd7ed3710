"""Prompts of the language-model demo, made in code: instructions to train on, and questions that one word answers."""

import itertools
import random
from collections.abc import Iterable

_THINGS = (
    "river mountain garden kitchen library bicycle train bridge candle mirror window ladder hammer pencil notebook "
    "lantern compass umbrella blanket pillow basket bottle teapot guitar piano violin drum trumpet clock camera "
    "telescope microscope magnet battery engine wheel rope sail anchor lighthouse harbour island desert forest meadow "
    "volcano glacier waterfall rainbow storm cloud snowflake shadow sunrise moon comet tree flower seed leaf mushroom "
    "apple orange lemon cherry carrot potato onion bread cheese honey soup cake pancake coffee tea salt sugar pepper "
    "dog cat horse rabbit fox owl eagle dolphin whale turtle spider butterfly bee ant penguin elephant tiger kangaroo "
    "teacher farmer doctor sailor baker painter pilot gardener"
)
_INSTRUCTIONS = (
    "Explain in one sentence what a {} is.",
    "Write one short sentence about a {}.",
    "Name three words that go with {}.",
    "Give two adjectives that describe a {}.",
    "What is a {} used for? Answer briefly.",
    "Where would you find a {}? Answer in one sentence.",
    "Describe a {} to a child.",
    "Write a title for a story about a {}.",
    "Ask a question about a {}.",
    "Use the word {} in a sentence.",
    "Name something that is larger than a {}.",
    "Name something that is smaller than a {}.",
    "Tell me one fact about a {}.",
    "What colour is a {} usually?",
    "Write a greeting that mentions a {}.",
    "Why do people like a {}? One sentence.",
    "What would the world be without a {}?",
    "Finish the sentence: The {} was",
    "List two things that a {} needs.",
    "Make a short rhyme about a {}.",
)
# Asked in training too, of other things than the held-out questions ask of.
_QUESTIONS = {
    (
        "What is the capital of {}?",
        "Which city is the capital of {}?",
        "Name the capital of {}.",
        "Tell me the capital city of {}.",
    ): "Mexico Brazil Argentina Chile Colombia Venezuela Ecuador Bolivia Uruguay Paraguay Turkey Israel Syria Lebanon "
    "Jordan Morocco Algeria Tunisia Libya Nigeria Ghana Senegal Ethiopia Uganda Tanzania Zambia Zimbabwe Sudan Somalia "
    "Pakistan Bangladesh Nepal Vietnam Cambodia Malaysia Indonesia Philippines Mongolia Ukraine Romania Bulgaria "
    "Serbia Croatia Slovakia Slovenia Switzerland Netherlands Iceland Scotland Wales Estonia Latvia Lithuania Armenia "
    "Georgia Jamaica Haiti Panama Nicaragua Honduras",
    (
        "What is the opposite of {}?",
        "Which word means the opposite of {}?",
        "Name the opposite of {}.",
        "Give me the antonym of {}.",
    ): "good love long wide thick clean near win buy begin inside north east first top front alive brave calm kind "
    "sharp smooth sweet tall tight noisy deep cheap busy awake above accept arrive asleep attack borrow build "
    "come create find forget give import include increase laugh lead more push remember send sit smart start succeed",
    (
        "How many legs does a {} have?",
        "What sound does a {} make?",
        "Where does a {} live?",
        "What does a {} eat?",
    ): "horse rabbit fox owl eagle butterfly bee ant tiger goat sheep duck frog lion monkey pig cow wolf bear snail",
}
TRAINING = 2000
ASKED = " Answer in one short sentence."  # the teacher then ends its answers within 32 tokens, and is right more often
_CAPITALS = (
    "France Paris, Germany Berlin, Italy Rome, Spain Madrid, Japan Tokyo, China Beijing, Russia Moscow, Egypt Cairo, "
    "Greece Athens, Austria Vienna, Portugal Lisbon, Poland Warsaw, Ireland Dublin, Norway Oslo, Sweden Stockholm, "
    "Finland Helsinki, Denmark Copenhagen, Hungary Budapest, Cuba Havana, Peru Lima, Kenya Nairobi, India Delhi, "
    "Canada Ottawa, Australia Canberra, Thailand Bangkok, Belgium Brussels, Iran Tehran, Iraq Baghdad"
)
_OPPOSITES = (
    "hot cold, big small, fast slow, day night, up down, black white, happy sad, old young|new, rich poor, open close, "
    "light dark|heavy, hard soft|easy, early late, strong weak, full empty, wet dry, high low, left right, true false"
)
_FACTS = (
    ("How many days are in a week?", "7|seven"),
    ("How many months are in a year?", "12|twelve"),
    ("How many legs does a spider have?", "8|eight"),
    ("How many minutes are in an hour?", "60|sixty"),
    ("How many sides does a triangle have?", "3|three"),
    ("What planet do we live on?", "Earth"),
    ("What is the largest planet in our solar system?", "Jupiter"),
    ("What is the largest ocean on Earth?", "Pacific"),
    ("What gas do plants take in from the air?", "carbon dioxide"),
    ("What is frozen water called?", "ice"),
    ("What is the chemical symbol of water?", "H2O"),
    ("Who wrote Romeo and Juliet?", "Shakespeare"),
    ("Who painted the Mona Lisa?", "Leonardo|Da Vinci"),
    ("What do bees make?", "honey"),
    ("What is the capital city of the United Kingdom?", "London"),
    ("What star is at the centre of our solar system?", "Sun"),
    ("What is the young of a cat called?", "kitten"),
    ("What is the young of a dog called?", "puppy"),
    ("What colour is the sky on a clear day?", "blue"),
    ("What colour is grass?", "green"),
    ("What is the boiling point of water in degrees Celsius?", "100"),
    ("What language is spoken in Brazil?", "Portuguese"),
    ("What is the fastest land animal?", "cheetah"),
    ("What is the tallest animal?", "giraffe"),
    ("What is the first month of the year?", "January"),
    ("What is the last month of the year?", "December"),
    ("On which continent is Egypt?", "Africa"),
    ("On which continent is Japan?", "Asia"),
)


def training_instructions(chance: random.Random) -> list[str]:
    """Instructions and questions without answers, each once, in random order."""
    asked = list(itertools.chain(*(_asked(texts, things) for texts, things in _QUESTIONS.items())))
    every = _asked(_INSTRUCTIONS, _THINGS)
    chance.shuffle(every)
    training = asked + every[: TRAINING - len(asked)]
    chance.shuffle(training)
    return [text + ASKED for text in training]


def _asked(texts: Iterable[str], things: str) -> list[str]:
    return [text.format(thing) for text, thing in itertools.product(texts, things.split())]


def held_out_questions() -> list[tuple[str, str, str]]:
    """Question, accepted answers with `|` between them, and domain; no training instruction asks for any of them."""
    capitals = [pair.split() for pair in _CAPITALS.split(", ")]
    opposites = [pair.split() for pair in _OPPOSITES.split(", ")]
    questions = [
        *((f"What is the capital of {country}?", city, "capitals") for country, city in capitals),
        *((f"What is the opposite of {word}?", answer, "opposites") for word, answer in opposites),
        *((question, answer, "facts") for question, answer in _FACTS),
    ]
    return [(question + ASKED, answer, domain) for question, answer, domain in questions]
