"""Turn the few regular expressions of the schema into plain Python, because importing ``re`` costs 6 ms.

Understood is what the schema uses: ``^``, literals and classes, at most one of them repeated by ``*`` or
``+``, ``$``.  As in ECMA 262, which JSON schema follows, ``$`` is the very end of the text, not the place
before a last newline as in Python.
"""

from __future__ import annotations


class Atom:
    """One literal or class: the characters it admits (or, negated, refuses), and ``*``, ``+`` or nothing."""

    __slots__ = ("characters", "negated", "repeat")

    def __init__(self, characters: str, negated: bool, repeat: str) -> None:
        self.characters = characters
        self.negated = negated
        self.repeat = repeat


def parse(pattern: str) -> list[Atom]:
    """The atoms between ``^`` and ``$``; raises ValueError for anything beyond the subset."""
    if not (pattern.startswith("^") and pattern.endswith("$")):
        raise ValueError(f"{pattern}: only whole-string patterns can be turned into plain Python")
    body = pattern[1:-1]
    atoms: list[Atom] = []
    at = 0
    while at < len(body):
        characters, negated, at = _class(body, at) if body[at] == "[" else (_literal(body[at]), False, at + 1)
        repeat = body[at] if at < len(body) and body[at] in "*+" else ""
        atoms.append(Atom(characters, negated, repeat))
        at += len(repeat)
    if sum(1 for atom in atoms if atom.repeat) > 1:
        raise ValueError(f"{pattern}: more than one repeated part")
    return atoms


def _literal(character: str) -> str:
    if character in r".\()|?{}*+^$":
        raise ValueError(f"{character} is not understood here")
    return character


def _class(body: str, at: int) -> tuple[str, bool, int]:
    end = body.index("]", at)
    inner = body[at + 1 : end].replace("\\n", "\n")
    negated = inner.startswith("^")
    return _ranges(inner[negated:]), negated, end + 1


def _ranges(inner: str) -> str:
    characters = ""
    at = 0
    while at < len(inner):
        if at + 2 < len(inner) and inner[at + 1] == "-":
            characters += "".join(map(chr, range(ord(inner[at]), ord(inner[at + 2]) + 1)))
            at += 3
        else:
            characters += inner[at]
            at += 1
    return characters


def predicate(pattern: str, name: str) -> str:
    """A Python expression over the string called ``name`` that is true where ``pattern`` matches."""
    atoms = parse(pattern)
    split = next((index for index, atom in enumerate(atoms) if atom.repeat), len(atoms))
    before, body, after = atoms[:split], atoms[split : split + 1], atoms[split + 1 :]
    least = len(before) + len(after) + (1 if body and body[0].repeat == "+" else 0)
    parts = [f"len({name}) {'>=' if body else '=='} {least}"] if least else []
    parts += _prefix(before, name)
    parts += [_one(f"{name}[{index - len(after)}]", atom) for index, atom in enumerate(after)]
    parts += [_many(f"{name}[{len(before) or ''}:{-len(after) or ''}]", atom) for atom in body]
    return " and ".join(parts).replace("[:]", "")


def _prefix(atoms: list[Atom], name: str) -> list[str]:
    text = "".join(atom.characters for atom in atoms)
    if len(text) == len(atoms) > 1 and not any(atom.negated for atom in atoms):
        return [f'{name}.startswith("{text}")']
    return [_one(f"{name}[{index}]", atom) for index, atom in enumerate(atoms)]


def _one(expression: str, atom: Atom) -> str:
    if len(atom.characters) == 1:
        return f"{expression} {'!=' if atom.negated else '=='} {_quoted(atom.characters)}"
    return f"{expression} {'not in' if atom.negated else 'in'} {_quoted(atom.characters)}"


def _many(expression: str, atom: Atom) -> str:
    # strip() takes a set of characters off both ends: nothing is left exactly where all of them are in the
    # set
    if atom.negated:
        if len(atom.characters) != 1:
            raise ValueError("a repeated negated class may refuse one character only")
        return f"{_quoted(atom.characters)} not in {expression}"
    return f"not {expression}.strip({_quoted(atom.characters)})"


def _quoted(characters: str) -> str:
    return '"' + characters.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
