import json

import pytest
from test_reading import curve, write, write_scalars

import lrlib
from lrlib import suggest
from lrlib.peers.suggest_command import main


@pytest.fixture
def files(tmp_path):
    return [str(write(tmp_path / f"{seed}.csv", *curve(seed))) for seed in range(3)]


def test_one_file_gives_the_suggestion_and_the_columns_it_was_read_from(files, capsys):
    assert main(files[:1]) == 0
    suggestion, printed = lrlib.read(files[0]).suggest(), capsys.readouterr().out
    assert f"{suggestion.lr:.3g}" in printed and "learning rates from lr, losses from loss" in printed
    assert main([*files[:1], "--columns", "loss", "lr"]) == 2


def test_two_scalars_of_tensorboard_are_one_sweep(tmp_path, capsys):
    lr, loss = map(str, write_scalars(tmp_path, *curve()))
    assert main([loss, lr, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["lr"] == suggest.suggest_lr(*curve()).lr and len(found["files"]) == 1


def test_several_files_are_several_sweeps(files, capsys):
    assert main([*files, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    each = [lrlib.read(file).suggest() for file in files]
    assert [part["lr"] for part in found["files"]] == [s.lr for s in each]
    assert [part["file"] for part in found["files"]] == files
    assert found["lr"] == pytest.approx(sorted(s.lr for s in each)[1])
    assert found["spread_decades"] > 0
    assert main(files) == 0
    assert f"{files[2]}: {each[2].lr:.3g}" in capsys.readouterr().out


def test_sweeps_over_other_rates_have_a_suggestion_and_no_common_plot(files, tmp_path, capsys):
    lr, loss = curve(1)
    other = str(write(tmp_path / "other.csv", lr * 1.5, loss))
    assert main([files[0], other]) == 0 and other in capsys.readouterr().out
    assert main([files[0], other, "--plot", str(tmp_path / "a.png")]) == 2
    assert "must share their learning rates" in capsys.readouterr().err and not (tmp_path / "a.png").exists()
    assert main([*files, "--plot", str(tmp_path / "a.png")]) == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["nowhere.csv"], 1, "nowhere.csv: no such file or directory"),
        (["{bad}"], 2, "must have one column with the learning rate"),
        (["{utf16}"], 2, "utf16.csv must be text in UTF-8"),
        (["{good}", "--smooth-f", "2"], 2, "smooth_f must be in [0, 1), got 2.0"),
        (["{good}", "--plot", "{good}.xyz"], 2, "xyz"),
    ],
)
def test_bad_input_ends_with_one_sentence_and_a_status(files, tmp_path, capsys, arguments, status, sentence):
    bad = tmp_path / "bad.csv"
    bad.write_text("a,b\n1,2\n")
    utf16 = tmp_path / "utf16.csv"
    utf16.write_text("lr,loss\n1,2\n", encoding="utf-16")
    assert main([argument.format(bad=bad, utf16=utf16, good=files[0]) for argument in arguments]) == status
    printed = capsys.readouterr()
    assert printed.out == "" and sentence in printed.err and printed.err.count("\n") == 1
