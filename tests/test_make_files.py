"""The make files, and what compose.yaml and the help say about their variables."""

import lzma
import os
import re
import secrets
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
MAKE_FILES = [ROOT / "Makefile", *sorted(ROOT.glob("configs/*.mk")), *sorted(ROOT.glob("configs/make/*.mk"))]
VARIABLES = {name for path in MAKE_FILES for name in re.findall(r"^(\w+) \?=", path.read_text(), re.MULTILINE)}


def test_compose_passes_every_variable():
    """All but the folders, which are the image's; and the keys of object storage."""
    services = yaml.safe_load((ROOT / "configs/compose.yaml").read_text())["services"]
    for name, service in services.items():
        passed = {entry for entry in service["environment"] if "=" not in entry and not entry.startswith("AWS_")}
        assert passed == VARIABLES - {"DATA", "SAMPLE"}, name


def test_a_variable_of_a_profile_is_one_of_the_makefile():
    defined = set(re.findall(r"^(\w+) \?=", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert defined == VARIABLES


def test_help_variables():
    """Each variable once, with the value that it would have."""
    command = ["make", "-C", ROOT, "--no-print-directory", "help-variables", "PROFILE=demo", "TRAIN_SET=a=1 b='x'"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    listed = dict(line.strip().split("=", 1) for line in lines if line.startswith("  "))
    assert listed.keys() == VARIABLES and sum(line.startswith("  ") for line in lines) == len(VARIABLES)
    assert listed["VOCAB_SIZE"].split()[0] == "4096"
    assert listed["TRAIN_SET"].startswith("a=1 b='x' ")
    assert not any(line.startswith((" ", "#")) and not line.startswith("  ") for line in lines)


def test_no_default_ends_with_a_blank():
    """make takes a blank before a comment as part of the value, and would pass it to tools and stamps."""
    for path in MAKE_FILES:
        assert not re.search(r"^\w+ \?=.*\S[ \t]+(#|$)", path.read_text(), re.MULTILINE), path


def test_lines_are_short():
    for path in MAKE_FILES:
        assert [line for line in path.read_text().splitlines() if len(line) > 120] == [], path


def make(*args, **variables):
    """One run of make in a clean environment, with `variables` in it -> (status, stdout, stderr)."""
    inherited = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "SUZURI_LOCK", "PROFILE", "DATA")
    env = {k: v for k, v in os.environ.items() if k not in inherited} | variables
    done = subprocess.run(
        ["make", "-f", ROOT / "Makefile", *args], capture_output=True, text=True, env=env, timeout=300
    )
    return done.returncode, done.stdout, done.stderr


def test_a_corpus_may_have_any_name(tmp_path):
    (tmp_path / "raw").mkdir()
    for name in ("own", "text", "-x", "詩", "か\u3099", "a.b+c", "x.txt.y", "a.txt"):
        (tmp_path / f"raw/{name}.txt").write_text("硯で墨をする。\n")
        status, out, err = make(
            "-n", f"DATA={tmp_path}", "NUM_FILES=2", f"train-model-{name}", f"TOKENIZER_CORPUS={name}"
        )
        assert status == 0, err
        assert f"cat-text {tmp_path}/raw/{name}.txt" in out
        assert f"VALIDATION_FRACTION=0.01 NUM_FILES=2 SUM.{name}=22' >{tmp_path}/.stamps/text-{name}.part" in out
        assert f"--output {tmp_path}/models/bert-tiny-{name}" in out


def test_launch_sends_every_heavy_program_with_names_of_files_only(tmp_path):
    (tmp_path / "raw/own").mkdir(parents=True)
    (tmp_path / "raw/own/a.txt").write_text("硯で墨をする。\n")
    goal = ("-n", f"DATA={tmp_path}", "NUM_FILES=2", "train-model-own", "TOKENIZER_CORPUS=own")
    status, out, err = make(*goal, "LAUNCH=srun -N1 --comment=it's; a=$(b)")
    assert status == 0, err
    commands = re.sub(" +", " ", re.sub(r"\\\n", "", out)).splitlines()
    launch = f"</dev/null 'srun' '-N1' '--comment=it'\\''s;' 'a=$(b)' {ROOT}/bin/"
    for tool, times in {"map-text": 1, "reduce-text": 16, "pack-tokens": 3}.items():
        found = [line.strip() for line in commands if re.search(f"(^|[/ ]){tool} ", line)]
        assert len(found) == times and all(line.startswith(f"{launch}{tool} ") for line in found)
        assert not any(re.search("[<>|]", line.removeprefix(launch)) for line in found)
        assert all(re.search(r" (\S+)\.\d{19}\.part .*&& mv (\1\.\d{19}\.part) \1$", line) for line in found), found
    assert "srun" not in next(line for line in commands if "train-mlm " in line)
    status, out, err = make(*goal, "TORCHRUN=srun -K1 torchrun --nnodes=2")
    assert status == 0 and f"'srun' '-K1' 'torchrun' '--nnodes=2' {ROOT}/bin/train-mlm " in re.sub(" +", " ", out)
    plain = make(*goal)[1]
    assert ".part && mv" not in plain and "srun" not in plain


UNFIT = list("#%:$\\'\"&;|<>(){}*?[]~!^`= \t\n\r\x01\x1b")
COMMANDS = [
    "a;touch PWN",
    "$(touch PWN)",
    "$(shell touch PWN)",
    "`touch PWN`",
    "a\ntouch PWN",
    "a|touch PWN",
    "a' b\"c",
]


@pytest.mark.parametrize("value", [*(f"x{c}y" for c in UNFIT), *COMMANDS, "x ", "", "/"])
def test_data_that_make_cannot_carry_is_refused_in_one_line(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    for goal in ("build-dataset-cc100-ja", "clean", "demo") if value in COMMANDS else ("all",):
        status, out, err = make(goal, f"DATA={value}")
        assert (status, out, err.count("\n")) == (2, "", 1) and "*** DATA=" in err, err
    for arguments, variables in (([f"DATA={value}"], {}), ([], {"DATA": value})):
        status, out, err = make("help", *arguments, **variables)
        assert (status, err) == (0, "") and "build-dataset-NAME" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted(VARIABLES))
def test_no_variable_is_a_command(tmp_path, monkeypatch, name):
    """Refused or quoted: nothing but make's own work happens, even if only the help is asked for."""
    monkeypatch.chdir(tmp_path)
    for value in ("x;touch PWN", " ".join(COMMANDS[1:-1])):
        status, _, err = make("help", "help-variables", f"{name}={value}")
        assert (status, err) == (0, ""), err
        make("-n", "all", "eval", **{"DATA": f"{tmp_path}/data", name: value})
        make("tokenizer", **{"DATA": f"{tmp_path}/data", name: value, "SUZURI_PYTHON": "/bin/false"})
    assert not list(tmp_path.rglob("PWN*"))


@pytest.mark.parametrize("value", COMMANDS)
def test_what_recipes_quote_arrives_whole(tmp_path, monkeypatch, value):
    """URLs and options with every kind of mark: the tool gets them, the shell does not."""
    monkeypatch.chdir(tmp_path)
    status, _, err = make("download-cc100-ja", f"DATA={tmp_path}/data", f"CC100_JA_URL=file:///none/{value}")
    assert status == 2 and (f"/none/{value}" in err or "CC100_JA_URL=" in err), err
    status, _, err = make("all", f"DATA={tmp_path}/data", f"TRAIN_SET=x{value}")
    assert status == 2 and ("list-stages: --set: " in err or "TRAIN_SET=" in err), err
    assert not list(tmp_path.rglob("PWN*"))


def test_a_password_in_a_url_is_neither_shown_nor_kept(tmp_path):
    url = "CC100_JA_URL=http://me:secret@127.0.0.1:9/ja.txt.xz"
    _, out, err = make("-n", "download-cc100-ja", f"DATA={tmp_path}/data", url)
    assert "== download-cc100-ja: http://127.0.0.1:9/ja.txt.xz" in out
    assert "echo" not in "".join(line for line in (out + err).splitlines() if "secret" in line)
    make(f"{tmp_path}/data/.stamps/raw-cc100-ja", f"DATA={tmp_path}/data", url)
    stamp = (tmp_path / "data/.stamps/raw-cc100-ja").read_text()
    assert stamp == "CC100_JA_URL=http://127.0.0.1:9/ja.txt.xz\n"


@pytest.mark.parametrize("goal", ["a;touch PWN", "build-dataset-$(touch PWN)", "x$(shell touch PWN)", "`touch`", "a%b"])
def test_a_goal_is_not_a_command(tmp_path, monkeypatch, goal):
    monkeypatch.chdir(tmp_path)
    status, out, err = make(goal, f"DATA={tmp_path}/data")
    assert (status, out, err.count("\n")) == (2, "", 1) and "make cannot work with" in err
    assert make("--", "-x", f"DATA={tmp_path}/data")[2].endswith("a goal does not begin with -.  Stop.\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["a b", "a'b", "a;id", "a$b", "a%b"])
def test_the_folder_of_the_project(tmp_path, folder):
    home = tmp_path / folder
    home.mkdir()
    for name in ("Makefile", "configs", "bin", "lib"):
        (home / name).symlink_to(ROOT / name)
    (home / "Makefile").unlink()
    shutil.copy(ROOT / "Makefile", home)
    done = subprocess.run(["make", "all"], cwd=home, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "make cannot work" in done.stderr, done.stderr
    assert not list(tmp_path.rglob("PWN*"))


def test_a_number_is_one():
    for name in ("JOBS", "CC100_NUM_FILES", "JAWIKI_NUM_FILES", "NUM_FILES"):
        for value in ("x", "-1", "1.5", ""):
            assert f"{name}={value}: not a number" in make("all", f"{name}={value}")[2]
    for given in ("GPUS=0: at least 1", "NUM_FILES=08: begins with 0", "NUM_FILES=1001: at most", "JOBS=600: at most"):
        assert given in make("all", given.partition(":")[0])[2]


def test_docker_all_passes_the_variables_on(tmp_path):
    _, out, _ = make("-n", "docker-all", "PROFILE=mini", "TRAIN_SET=a=1 b=2", f"DATA={tmp_path}", VOCAB_SIZE="9000")
    command = " ".join(out.splitlines()[-3:]).split()
    for given in ("PROFILE='mini'", "TRAIN_SET='a=1", "VOCAB_SIZE='9000'", f"DATA_PATH='{tmp_path}'"):
        assert given in command
    assert not [word for word in command if word.startswith(("DATA=", "SEED="))]
    _, out, _ = make("-n", "docker-all", DATA_PATH="/big")
    assert "DATA_PATH" not in out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["MAX_SEQ_LENGTH=600"], "train-demo-own.json: the sequences have up to 600 tokens, the model takes 128"),
        (["TOKENIZER_TYPE=char", "TRAIN_SET=whole_word_masking=true"], "whole_word_masking needs a tokenizer with ##"),
        (["TRAIN_SET=model.num_attention_heads=7"], "does not give a masked language model"),
        (["MODEL_LICENSE=cc/by"], "is not the identifier of a licence"),
        (["TOKENIZER_TYPE=bpe"], "invalid choice: 'bpe'"),
        (["VOCAB_SIZE=100"], "--vocab-size: at least 128"),
        (["CROP_PAIRS=2"], "--crop-pairs: invalid"),
        (["VALIDATION_FRACTION=5"], "--valid-fraction: invalid"),
        (["VALIDATION_FRACTION=0"], "VALIDATION_FRACTION=0: training on own needs text for validation"),
        (["PSEUDO_LINES=1oo"], "PSEUDO_LINES: not an amount: '1oo'"),
        (["MODEL_DISK=2Q"], "MODEL_DISK: not a size: '2Q'"),
        (["NUM_FILES=0"], "NUM_FILES=0: at least 1"),
        (["SEED=-1"], "--seed: from 0 to 2^64 - 1"),
        (["SORT_MEMORY=1k"], "--memory: at least 1M"),
        (["MIN_CHARS=50", "MAX_CHARS=20"], "--min-chars is more than --max-chars"),
        (["MAX_SENTENCE_NUM=00"], "MAX_SENTENCE_NUM: '00': write 0"),
        (["MAX_SENTENCE_NUM=0.5"], "MAX_SENTENCE_NUM: not an amount: '0.5'"),
        (["MAX_SENTENCE_NUM=inf"], "MAX_SENTENCE_NUM: not an amount: 'inf'"),
    ],
)
def test_a_value_that_a_later_step_would_refuse(tmp_path, given, said):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/own.txt").write_text("硯で墨をする。\n" * 99)
    goal = ("train-model-own", "TOKENIZER_CORPUS=own", "PROFILE=demo", f"DATA={tmp_path}")
    status, out, err = make(*goal, *given)
    assert status == 2 and err.count(said) == 1, err
    assert not (tmp_path / "text").exists() and "== " not in out + err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("EVAL_TASKS=jsts jsst", "EVAL_TASKS: jsst: not one of jsts jnli"),
        ("BASELINES={0}/x/base {0}/none", "BASELINES: {0}/none: not a model folder"),
        ("BASELINES={0}/x/base {0}/y/base", "BASELINES: two folders of one name"),
        ("BASELINES={0}/demo-jawiki", "BASELINES: demo-jawiki: a row of the table has this name already"),
        ("BASELINES={0}/x/base", ""),
    ],
)
def test_rows_of_the_table(tmp_path, given, said):
    for name in ("x/base", "y/base", "demo-jawiki"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").touch()
    status, _, err = make("-n", "eval", "PROFILE=demo", f"DATA={tmp_path}/data", given.format(tmp_path))
    assert status == (2 if said else 0) and said.format(tmp_path) in err, err


def test_tasks_as_they_are_downloaded(tmp_path):
    """fetch-url's record beside a file is not a task's file; another folder means another measurement."""
    for folder in ("one", "two"):
        (tmp_path / folder / "jsts").mkdir(parents=True)
        for name in ("train-v1.3.json", "train-v1.3.json.json", "valid-v1.3.json", "valid-v1.3.json.json"):
            (tmp_path / folder / "jsts" / name).touch()
    given = ("PROFILE=demo", f"DATA={tmp_path}/data", f"BASELINES={tmp_path}/base", f"TASKS={tmp_path}/one")
    (tmp_path / "base").mkdir()
    (tmp_path / "base/config.json").touch()
    _, out, err = make("-n", "eval", *given)
    assert f"--similarity {tmp_path}/one/jsts/valid-v1.3.json " in out and ".json.json" not in out + err
    assert "finetune bag-of-words jsts" in out
    stamp = tmp_path / "data/.stamps/eval-zero-shot-similarity"
    make(stamp, *given)
    assert make("-q", stamp, *given)[0] == 0
    assert make("-q", stamp, *given[:-1], f"TASKS={tmp_path}/two")[0] == 1


def test_a_checkpoint_to_go_back_to_is_one_models(tmp_path):
    stamp = tmp_path / ".stamps/model-demo-cc100-ja"
    given = ("PROFILE=demo", f"DATA={tmp_path}")
    make(stamp, *given)
    back = f"TRAIN_FROM={tmp_path}/models/demo-jawiki/checkpoints/step-00000003-00000000.safetensors"
    _, out, _ = make("-n", "all", *given, back, "TRAIN_SET=learning_rate=1e-4")
    lines = [line for line in out.replace("\\\n", "").splitlines() if "train-mlm" in line]
    assert len(lines) == 2 and ["--from" in line for line in lines] == [False, True]
    assert make("-q", stamp, *given, back, "TRAIN_SET=learning_rate=1e-4")[0] == 0
    assert make("-q", stamp, *given, "TRAIN_SET=learning_rate=1e-4")[0] == 1
    assert "not in" in make("-n", "all", *given, "TRAIN_FROM=step-00000003-00000000.safetensors")[2]


def test_a_streamed_local_source_that_has_changed_is_read_again(tmp_path):
    source, given = tmp_path / "my.txt", (f"DATA={tmp_path}/data", "STREAM=1", f"CC100_JA_URL={tmp_path}/my.txt")
    for i, text in enumerate(("硯で墨をする時間が好きだ。", "紙に大きな字を書いてみた。")):
        source.write_text(text + "\n")
        os.utime(source, (later := time.time() + 60 * i, later))
        status, _, err = make("build-dataset-cc100-ja", *given, "CC100_MAX_VALIDATION_SENTENCE_NUM=0")
        assert status == 0, err
        found = b"".join(path.read_bytes() for path in (tmp_path / "data/text/cc100-ja").glob("train-*"))
        assert found.decode() == text + "\n"


def test_a_baseline_that_has_changed_is_measured_again(tmp_path):
    (tmp_path / "base").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "base" / name).touch()
    result = tmp_path / "data/eval/tasks/base/jsts.json"
    given = ("EVAL_TASKS=jsts", f"TASKS={tmp_path}", f"BASELINES={tmp_path}/base", f"DATA={tmp_path}/data")

    def planned():
        return f"finetune {tmp_path}/base jsts" in make("-n", result, "PROFILE=demo", *given)[1]

    assert planned()
    for stamp in ("eval-tasks", "eval-row-base"):
        make(tmp_path / f"data/.stamps/{stamp}", "PROFILE=demo", *given)
    result.parent.mkdir(parents=True)
    result.touch()
    assert not planned()
    later = time.time() + 60
    os.utime(tmp_path / "base/model.safetensors", (later, later))
    assert planned()


def test_a_local_source_that_has_changed_is_fetched_again(tmp_path):
    source, data = tmp_path / "my.xz", f"DATA={tmp_path}/data"
    for text in ("硯で墨をする。\n", "紙に字を書く。\n"):
        (tmp_path / "new").write_bytes(lzma.compress(text.encode()))
        (tmp_path / "new").rename(source)
        later = time.time() + len(text) * (text[0] == "紙")
        os.utime(source, (later, later))
        for url in (source, f"file://{source}"):
            status, _, err = make("download-cc100-ja", data, f"CC100_JA_URL={url}")
            assert status == 0, err
        assert lzma.decompress((tmp_path / "data/raw/ja.txt.xz").read_bytes()).decode() == text


BAD_FILES = ["h#i", "p%q", "my poems", "a.txt b", "a;touch PWN", "o'k", 'd"q', "$(touch PWN)", "b\\c", "c:d", "n\nl"]
BAD_FILES += ["co,mma", "a@b", "k&l", "`id`", "eq=x", "q?", "st*r", "\x1b[31m"]


def test_bad_names_under_raw(tmp_path):
    """Each is reported in one line and stops no other dataset; a goal that would use it ends at once."""
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in ("good", *BAD_FILES, "ja", "jawiki", "cc100-ja", "x.part", "dup"):
        (raw / f"{name}.txt").write_text("硯で墨をする。\n")
    (raw / "dup.txt.xz").write_bytes(lzma.compress("硯\n".encode()))
    good = ("-n", "train-model-good", "TOKENIZER_CORPUS=good", f"DATA={tmp_path}")
    status, out, err = make(*good)
    assert status == 0 and f"cat-text {raw}/good.txt" in out, err
    lines = err.splitlines()
    assert sum(" not read; rename " in line for line in lines) == len(BAD_FILES)
    assert "\x1b" not in err and f"only: {raw}/my poems.txt" in err
    assert f"make: {raw}/dup.txt.xz {raw}/dup.txt: both are the dataset dup, remove one" in lines
    taken = [f"make: {raw}/{x}.txt: the name {x} is not for" for x in ("cc100-ja", "ja", "jawiki", "x.part")]
    assert all(any(line.startswith(start) for line in lines) for start in taken)
    assert len(lines) == len(BAD_FILES) + 1 + len(taken)
    for goals in ("build-dataset-dup", "shards-dup", "train-model-dup", "tokenizer TOKENIZER_CORPUS=dup",
                  "build-dataset-ja", "build-dataset-jawiki", "build-dataset-cc100-ja", "all", "eval"):  # fmt: skip
        status, out, err = make("-n", *goals.split(), f"DATA={tmp_path}")
        assert (status, out) == (2, "") and err.count("\n") == 1 and f"*** {raw}/" in err, err
    assert "put it at" in make("build-dataset-none", f"DATA={tmp_path}")[2]
    assert "put it at" in make("tokenizer", "TOKENIZER_CORPUS=none", f"DATA={tmp_path}")[2]
    assert not list(tmp_path.rglob("PWN*"))


def test_names_in_the_sample_do_not_matter(tmp_path):
    for name in ("cc100", "jawiki"):
        shutil.copytree(ROOT / "data/sample" / name, tmp_path / "sample" / name)
    for name in ("my notes", "h#i", "p%q", "a;touch PWN"):
        (tmp_path / f"sample/cc100/{name}.txt").write_text("硯で墨をする。\n")
    goal = ("download-cc100-ja", "PROFILE=demo", f"DATA={tmp_path}/data", f"SAMPLE={tmp_path}/sample")
    status, _, err = make(*goal)
    assert status == 0, err
    assert lzma.open(tmp_path / "data/raw/ja.txt.xz").read().decode().count("硯で墨をする。\n") >= 4
    assert not list(tmp_path.rglob("PWN*"))


def test_a_stamp_is_read_the_same_whatever_data_is_called(request):
    """GNU Make 4.3 leaves the last newline of a file of more than 200 bytes or not, by the place of its memory."""
    names = ("text-cc100-ja", "model-demo-jawiki")
    settings = ["PROFILE=demo", "TRAIN_SET=max_steps=6 eval_steps=3 save_steps=3 warmup_steps=1 batch_tokens=2048"]

    def status(*options):
        return make(*options, *(f"{data}/.stamps/{name}" for name in names), f"DATA={data}", *settings)[0]

    data = f"/tmp/{secrets.token_hex(2)}x"
    request.addfinalizer(lambda: shutil.rmtree(data))
    assert status() == 0
    for _ in range(10, 61, 5):
        assert status("-q") == 0, data
        data = shutil.move(data, f"{data}xxxxx")
    for name in names:
        stamp = Path(data, ".stamps", name)
        stamp.write_text(f"{stamp.read_text()}\n")
    assert status("-q") == 0
    settings.append("SEED=3")
    assert status("-q") == 1
