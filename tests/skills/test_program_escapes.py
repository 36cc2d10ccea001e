"""Nothing gets out of a program: what broke other Python sandboxes, in our own words, and what would wear a host out.

Each attack leaves a mark where it would count if it worked: a file, an environment variable's value, an attribute of
ours, or a call that no program may make. The test looks for the mark and not only for an error.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from hiervla.skills import SkillLibrary
from hiervla.skills.programs import Call, CallResult, Ended, ProgramError, ProgramLimits, Sandbox, Vocabulary

VOCABULARY = Vocabulary(SkillLibrary.load().signatures())
SECRET = "hiervla-secret-of-the-host"

ATTACKS = {
    # The way up from a literal to every class of the interpreter: jinja2, simpleeval, RestrictedPython, smolagents.
    "subclasses": "leak(str(().__class__.__base__.__subclasses__()))",
    "subclasses by getattr": "leak(str(getattr(getattr((), '__cl' + 'ass__'), '__ba' + 'ses__')[0].__subclasses__()))",
    "mro": "leak(str(''.__class__.__mro__[1].__subclasses__()))",
    "type of type": "leak(str(type(type(1)).__subclasses__(type)))",
    "a class found by its name": (
        "for c in object.__subclasses__():\n    if c.__name__ == 'catch_warnings':\n"
        "        leak(c()._module.__builtins__['__import__']('os').environ['HIERVLA_TEST_SECRET'])"
    ),
    # Globals and builtins through a function: asteval, simpleeval, smolagents.
    "globals of a function": "def f():\n    pass\nleak(f.__globals__['__builtins__'])",
    "globals of a given function": "leak(str(see.__globals__))",
    "code object": "def f():\n    return 1\nf.__code__ = (lambda: 2).__code__\nleak(str(f.__code__.co_consts))",
    "code replaced": "def f():\n    return 1\nleak(str(f.__code__.replace(co_code=b'd\\x00S\\x00')))",
    "closure": "x = [1]\ndef f():\n    return x\nleak(str(f.__closure__[0].cell_contents))",
    "builtins by name": "leak(str(__builtins__))",
    "import function": "leak(__import__('os').popen('id').read())",
    "import function from builtins": "import builtins\nleak(builtins.__import__('os').popen('id').read())",
    "loader": "leak(str(__loader__.load_module('os').environ))",
    "spec": "leak(str(__spec__.loader))",
    # Frames: RestrictedPython (CVE-2023-37271), asteval, pysandbox.
    "generator frame": "g = (x for x in [1])\nleak(str(g.gi_frame.f_back.f_globals))",
    "generator frame, running": (
        "def f():\n    yield g.gi_frame.f_back.f_back.f_builtins\ng = f()\nfor b in g:\n    leak(str(b['open']))"
    ),
    "generator code": "g = (x for x in [1])\nleak(str(g.gi_code.co_code))",
    "coroutine frame": "async def f():\n    pass\nc = f()\nleak(str(c.cr_frame.f_globals))",
    "traceback frame": (
        "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    leak(str(e.__traceback__.tb_frame.f_back.f_globals))"
    ),
    "traceback frame by context": (
        "try:\n    try:\n        1 / 0\n    except ZeroDivisionError:\n        {}['a']\nexcept KeyError as e:\n"
        "    leak(str(e.__context__.__traceback__.tb_frame.f_globals))"
    ),
    "frame of sys": "import sys\nleak(str(sys._getframe(0).f_globals))",
    "modules of sys": "import sys\nleak(str(sys.modules['os'].environ))",
    "inspect": "import inspect\nleak(str(inspect.currentframe().f_back))",
    # Attributes in format strings: RestrictedPython (CVE-2023-41039), jinja2 (CVE-2016-10745), str.format_map.
    "format": "leak('{0.__class__.__base__.__subclasses__}'.format(see))",
    "format of globals": "def f():\n    pass\nleak('{0.__globals__[__builtins__]}'.format(f))",
    "format map": "leak('{x.__init__.__globals__}'.format_map({'x': see}))",
    "format, stolen": "leak(str.format('{0.__class__.__mro__}', 1))",
    "f-string": "leak(f'{see.__class__.__base__.__subclasses__()}')",
    "percent": "leak('%s' % (see.__class__.__base__.__subclasses__(),))",
    # Other ways to an attribute: asteval (CVE-2025-24359), simpleeval, RestrictedPython (CVE-2025-22153).
    "vars": "leak(str(vars(see)))",
    "dir": "leak(str([n for n in dir(see) if 'globals' in n][0]))",
    "object getattribute": "leak(str(object.__getattribute__(see, '__globals__')))",
    "attrgetter": "import operator\nleak(str(operator.attrgetter('__globals__')(see)))",
    "match of a class": (
        "match see:\n    case object(__globals__=g):\n        leak(str(g))\n"
        "    case _:\n        raise ValueError('no match')"
    ),
    "except star": (
        "try:\n    raise ExceptionGroup('x', [ValueError()])\nexcept* ValueError as e:\n"
        "    leak(str(e.__traceback__.tb_frame.f_globals))"
    ),
    "attribute error's object": (
        "try:\n    see.nothing\nexcept AttributeError as e:\n    leak(str(e.obj.__globals__))"
    ),
    "str subclass that lies": (
        "class S(str):\n    def startswith(self, *a):\n        return False\n"
        "    def __eq__(self, other):\n        return False\n"
        "leak(str(getattr(see, S('__globals__'))))"
    ),
    "decorator": "@exec\n@input\nclass X:\n    pass",
    "getitem by class": "class X:\n    __class_getitem__ = __import__\nleak(X['os'].getcwd())",
    "metaclass": (
        "class M(type):\n    __getitem__ = lambda c, n: __import__(n)\n"
        "class X(metaclass=M):\n    pass\nleak(X['os'].getcwd())"
    ),
    "init subclass": (
        "class X:\n    def __init_subclass__(c):\n        leak(str(c.__subclasses__.__globals__))\n"
        "class Y(X):\n    pass"
    ),
    # Code from text and from bytes.
    "eval": "leak(str(eval('__import__(\"os\").environ')))",
    "exec": "exec('import os\\nleak(os.environ[\"HIERVLA_TEST_SECRET\"])')",
    "compile": "leak(str(eval(compile('__import__(\"os\").environ', 'x', 'eval'))))",
    "pickle": "import pickle\nleak(str(pickle.loads(b\"cos\\nsystem\\n(S'touch MARK'\\ntR.\")))",
    "marshal": "import marshal\nleak(str(marshal.loads(b'c')))",
    "unicode names": "leak(str(().__ｃlass__.__base__.__subclasses__()))",
    # Files, processes, network, environment.
    "open": "open('MARK', 'w').write('out')",
    "open by eval": "eval('open')('MARK', 'w').write('out')",
    "pathlib": "import pathlib\npathlib.Path('MARK').write_text('out')",
    "read": "import pathlib\nleak(pathlib.Path('/etc/hostname').read_text())",
    "list": "import os\nleak(str(os.listdir('/')))",
    "system": "import os\nos.system('touch MARK')",
    "subprocess": "import subprocess\nsubprocess.run(['touch', 'MARK'])",
    "posix": "import posix\nposix.system('touch MARK')",
    "ctypes": "import ctypes\nctypes.CDLL(None).system(b'touch MARK')",
    "socket": "import socket\nsocket.create_connection(('127.0.0.1', 9))\nleak('connected')",
    "environment": "import os\nleak(os.environ['HIERVLA_TEST_SECRET'])",
    "environment, getenv": "import os\nleak(os.getenv('HIERVLA_TEST_SECRET') or 1 / 0)",
    "gc": "import gc\nleak(str(gc.get_objects()))",
    "importlib": "import importlib\nleak(str(importlib.import_module('os').environ))",
    "code module": "import code\ncode.interact()",
    "our package": "import hiervla\nleak(str(hiervla))",
    "its own answers": "leak(str(pick('x').__class__.__init__.__globals__))",
    "its own answers, written": "o = pick('x')\no.__class__.succeeded = True\nleak('changed')",
    "its own answers, hidden": "leak(str(getattr(pick('x'), '_sandbox')))",
}
"""Name, and a program that says ``leak(what)`` with what it got hold of."""

LEAK = "def leak(what):\n    give_up(repr(str(what))[:150])\n"
"""An attack that gets hold of anything ends as one who gave up, with what it got as its message."""

BOMBS = {
    "endless loop": "while True:\n    pass",
    "endless loop that catches": (
        "while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass"
    ),
    "list": "x = [0] * 10**9",
    "growing list": "x = []\nwhile True:\n    x.append('a' * 1000)",
    "doubled text": "x = 'a'\nwhile True:\n    x += x",
    "power": "x = 9 ** 9 ** 9",
    "shift": "x = 1 << 10**12",
    "recursion": "def f():\n    return f() + f()\nf()",
    "deep nesting": "(" * 3000 + "1" + ")" * 3000,
    "deep lists": "x = " + "[" * 2000 + "]" * 2000,
    "long sum": "x = " + "+".join(["1"] * 5000),
    "regular expression": "import re\nre.match('(a+)+$', 'a' * 60 + 'b')",
    "printing": "while True:\n    print('x' * 1000)",
    "sleep": "import time\nwhile True:\n    time.sleep(1000)",
    "endless questions": "while True:\n    see('red mug')",
    "exceptions": "def f(n):\n    try:\n        f(n + 1)\n    finally:\n        f(n + 1)\nf(0)",
    "permutations": "import itertools\nx = list(itertools.product(range(1000), repeat=5))",
    "range": "x = list(range(10**12))",
    "set of products": "x = {(a, b, c) for a in range(10**4) for b in range(10**4) for c in range(10**4)}",
    "int to text": "x = str(10 ** 10**6)",
}


def outcome_of(source: str, limits: ProgramLimits | None = None) -> tuple[Ended | ProgramError, list[Call]]:
    """Run a program with answers that say yes to everything; its end and the calls that it made."""
    calls: list[Call] = []
    with Sandbox("attack", source, VOCABULARY, limits) as sandbox:
        try:
            request = sandbox.begin()
        except ProgramError as error:
            return error, calls
        while isinstance(request, Call):
            calls.append(request)
            assert request.function in VOCABULARY
            request = sandbox.answer(CallResult("succeeded") if request.function == "pick" else True)
        return request, calls


@pytest.fixture(params=[False, True], ids=["checked", "hidden from the checker"])
def disguise(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_gets_out(name: str, disguise: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIERVLA_TEST_SECRET", SECRET)
    monkeypatch.chdir(tmp_path)
    mark = tmp_path / "mark"
    attack = LEAK + ATTACKS[name].replace("MARK", str(mark))
    # The type checker stops most texts; a text that is evaluated inside of the sandbox never meets it.
    ended, calls = outcome_of(f"exec({attack!r})" if disguise else attack)
    message = str(ended) if isinstance(ended, ProgramError) else ended.message
    assert isinstance(ended, ProgramError) or ended.how == "failed", message
    assert SECRET not in message and SECRET not in getattr(ended, "printed", "")
    assert not mark.exists()
    assert {c.function for c in calls} <= {"pick", "see"}
    assert os.environ["HIERVLA_TEST_SECRET"] == SECRET
    for word in ("subprocess", "hiervla.", "site-packages", "/root", "BuiltinImporter", "_io."):
        assert word not in message.replace(attack, ""), message


@pytest.mark.parametrize("name", BOMBS)
def test_no_bomb_wears_the_host_out(name: str) -> None:
    limits = ProgramLimits(seconds=1.0, suspensions=200, memory_mb=16)
    began = time.monotonic()
    ended, _ = outcome_of(BOMBS[name], limits)
    if isinstance(ended, Ended):
        assert len(ended.printed) <= limits.printed
    # The time that it may compute, and a worker process that is started and checks types on a busy machine.
    assert time.monotonic() - began < 25.0
    if name not in {"long sum", "deep lists", "sleep", "regular expression", "int to text", "deep nesting"}:
        assert isinstance(ended, ProgramError) or ended.how == "failed"


@pytest.mark.parametrize("text", ["see('a')\nleak('hiervla.')", "exec('see(\\'a\\')\\nleak(\\'hiervla.\\')')"])
def test_an_attack_that_got_hold_of_something_would_be_seen(text: str) -> None:
    ended, calls = outcome_of(LEAK + text)
    assert isinstance(ended, Ended) and (ended.how, ended.message) == ("gave_up", "'hiervla.'")
    assert [str(c) for c in calls] == ["see(a)"]


def test_after_all_of_it_a_new_program_works() -> None:
    ended, calls = outcome_of("pick('red mug')")
    assert isinstance(ended, Ended) and ended.how == "finished"
    assert [c.args for c in calls] == [{"object": "red mug"}]
