"""Two verifiable tasks made in code, each a domain with its own teacher.

m  column addition of two numbers, lowest column first (digit + digit + carry = two digits), then the sum:
       M314+279=    4+9+0=13;1+7+1=09;3+2+0=05;#0593
c  a program on four letters, the state after every operation, then the last state:
       Crvs:abcd=   r>dabc;v>cbad;s>bcad;#bcad
   l, r rotate left and right; s swaps the first two; v reverses; c copies the first over the last; i moves the first
   letter on by one in the alphabet.

Two freedoms that do not matter for the answer give the teachers a real entropy: every separator is one of `;,.`, and
the two digits of a column come in either order. In range are sums of 3-digit numbers and programs of 3 operations;
hard prompts (5-6 digits, 6-7 operations) are never taught to a teacher.
"""

import json
from collections.abc import Callable, Container, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from string import ascii_lowercase

DOMAINS = ("m", "c")
SEPARATORS = ";,."
MARK = "#"
MAX_RESPONSE = 64  # tokens, end-of-sequence included; the longest right response (a 6-digit sum) has 63

HELD_OUT, VALIDATION, TRAIN = 400, 200, 15_360
HARD_SHARE = 0.3

OPERATIONS: dict[str, Callable[[str], str]] = {
    "l": lambda s: s[1:] + s[0],
    "r": lambda s: s[-1] + s[:-1],
    "s": lambda s: s[1] + s[0] + s[2:],
    "v": lambda s: s[::-1],
    "c": lambda s: s[:-1] + s[0],
    "i": lambda s: ascii_lowercase[(ascii_lowercase.index(s[0]) + 1) % 26] + s[1:],
}


@dataclass(frozen=True)
class Problem:
    """One line of a prompt set. Prompts beyond the teachers have domains of their own, `m-hard` and `c-hard`."""

    id: str
    prompt: str
    answer: str
    domain: str

    @property
    def hard(self) -> bool:
        return self.domain.endswith("-hard")


def draw_prompt(domain: str, rng: Random, *, hard: bool = False) -> str:
    """A random prompt of `domain`, in the teachers' range or, if `hard`, beyond it."""
    if domain == "m":
        digits = rng.randint(5, 6) if hard else 3
        first, second = (rng.randrange(10 ** (digits - 1), 10**digits) for _ in range(2))
        return f"M{first}+{second}="
    program = "".join(rng.choice("lrsvci") for _ in range(rng.randint(6, 7) if hard else 3))
    letters = "".join(rng.choice(ascii_lowercase) for _ in range(4))
    return f"C{program}:{letters}="


def solve(prompt: str) -> str:
    """The right answer: the sum with one digit more than the numbers, or the last state."""
    body = prompt[1:-1]
    if prompt[0] == "M":
        first, second = body.split("+")
        return f"{int(first) + int(second):0{len(first) + 1}d}"
    program, state = body.split(":")
    for name in program:
        state = OPERATIONS[name](state)
    return state


def write_out(prompt: str, rng: Random) -> str:
    """A right response to `prompt`; `rng` chooses the separators and the order of the digits."""
    body, steps = prompt[1:-1], []
    if prompt[0] == "M":
        first, second = body.split("+")
        carry = 0
        for pair in zip(reversed(first), reversed(second), strict=True):
            left, right = pair if rng.random() < 0.5 else pair[::-1]
            total = int(left) + int(right) + carry
            steps.append(f"{left}+{right}+{carry}={total:02d}")
            carry = total // 10
    else:
        program, state = body.split(":")
        for name in program:
            state = OPERATIONS[name](state)
            steps.append(f"{name}>{state}")
    return "".join(step + rng.choice(SEPARATORS) for step in steps) + MARK + solve(prompt)


def is_correct(response: str, answer: str) -> bool:
    """Exactly one mark, and the answer after it. That the response has ended is for the caller to know."""
    return response.count(MARK) == 1 and response.partition(MARK)[2] == answer


def held_out() -> list[Problem]:
    """The evaluation set: in range, half of each domain, in no set that anything is trained on."""
    return _problems("held-out", HELD_OUT, hard_share=0, exclude=())


def validation() -> list[Problem]:
    """What the student's training looks at to stop; disjoint from the evaluation set."""
    return _problems("validation", VALIDATION, hard_share=0, exclude=reserved(validation_too=False))


def training(*, clean: bool) -> list[Problem]:
    """The distillation set: 30 % of each domain beyond the teachers, or nothing if `clean`."""
    return _problems("clean" if clean else "mixed", TRAIN, hard_share=0 if clean else HARD_SHARE, exclude=reserved())


def reserved(*, validation_too: bool = True) -> frozenset[str]:
    """The prompts that no training may see."""
    problems = held_out() + (validation() if validation_too else [])
    return frozenset(problem.prompt for problem in problems)


def examples(domain: str, rng: Random, exclude: Container[str]) -> Iterator[tuple[str, str]]:
    """Endless (prompt, response) pairs in range, none of them in `exclude`."""
    while True:
        prompt = draw_prompt(domain, rng)
        if prompt not in exclude:
            yield prompt, write_out(prompt, rng)


def write_problems(path: Path, problems: list[Problem]) -> None:
    """One JSON object a line: `id`, `prompt`, `answer`, `domain`."""
    path.write_text("".join(json.dumps(asdict(problem)) + "\n" for problem in problems))


def _problems(name: str, count: int, *, hard_share: float, exclude: Container[str]) -> list[Problem]:
    rng, seen, problems = Random(f"fire-opd demo {name}"), set[str](), list[Problem]()
    for domain in DOMAINS:
        total = count // len(DOMAINS)
        hard_count = round(total * hard_share)
        for part, wanted in ((domain, total - hard_count), (f"{domain}-hard", hard_count)):
            found = 0
            while found < wanted:
                prompt = draw_prompt(domain, rng, hard=part != domain)
                if prompt in seen or prompt in exclude:
                    continue
                seen.add(prompt)
                problems.append(Problem(f"{part}-{found:05d}", prompt, solve(prompt), part))
                found += 1
    rng.shuffle(problems)
    return problems
