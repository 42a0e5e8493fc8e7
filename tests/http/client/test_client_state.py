"""What the client remembers, and what it makes of problem documents."""

import json
import os
import random
from pathlib import Path

import pytest

from filestore.client.problems import MEDIA_TYPE, document_of, error_of
from filestore.client.retry import RetryPolicy
from filestore.client.state import TransferRecords, default_state_folder
from filestore.client.transport import Transport
from filestore.errors import (
    CATALOG,
    BadSetting,
    BusyLocally,
    FilestoreError,
    Locked,
    QuotaExceeded,
    StoreUnavailable,
)

KEY = TransferRecords.key("http://h", "team", "a", 1)


@pytest.fixture
def records(tmp_path: Path) -> TransferRecords:
    return TransferRecords(tmp_path / "uploads")


def test_a_record_is_kept_for_the_user_alone(records: TransferRecords, tmp_path: Path) -> None:
    with records.hold(KEY, tmp_path):
        records.save(KEY, {"upload": "uploads/upl_1"})
    (file,) = (tmp_path / "uploads").iterdir()

    assert records.load(KEY) == {"upload": "uploads/upl_1"}
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    records.forget(KEY)
    assert records.load(KEY) is None


def test_a_transfer_is_held_by_one_at_a_time(records: TransferRecords, tmp_path: Path) -> None:
    other = TransferRecords(tmp_path / "uploads")
    with records.hold(KEY, tmp_path):
        with pytest.raises(BusyLocally), other.hold(KEY, tmp_path):
            pass
    with other.hold(KEY, tmp_path):
        pass

    assert list((tmp_path / "uploads").iterdir()) == []


def test_records_that_nobody_used_for_months_are_dropped(
    records: TransferRecords, tmp_path: Path
) -> None:
    other = TransferRecords.key("other")
    with records.hold(KEY, tmp_path):
        records.save(KEY, {})
        records.save(other, {})
    os.utime(tmp_path / "uploads" / f"{other}.json", (1, 1))
    with records.hold(KEY, tmp_path):
        pass

    assert records.load(other) is None
    assert records.load(KEY) == {}


def test_the_state_folder_can_be_chosen(tmp_path: Path) -> None:
    chosen = {"FILESTORE_STATE_DIR": str(tmp_path)}

    assert default_state_folder(chosen) == tmp_path
    assert default_state_folder({}).name == "filestore"


@pytest.mark.parametrize("code", sorted(CATALOG))
def test_every_code_comes_back_as_the_class_that_was_raised(code: str) -> None:
    body = json.dumps({"type": f"urn:filestore:problem:{code}", "status": 400, "what": "x"})
    error = error_of(400, {"Content-Type": MEDIA_TYPE, "Retry-After": "7"}, body.encode())

    assert (error.code, error.members, error.retry_after_s) == (code, {"what": "x"}, 7)
    assert error.spec == CATALOG[code]


def test_a_document_and_its_exception_say_the_same() -> None:
    error = QuotaExceeded(needed=5, free=1, limit=9, reserved=2, freeable=3)
    document = document_of(error)
    again = error_of(413, {"Content-Type": MEDIA_TYPE}, json.dumps(document).encode())

    assert document["needed"] == 5
    assert document["detail"] == error.sentence()
    assert document_of(again) == document


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe", b"<html>", b"[1]", b'{"type": 5}', b'{"retry_after_s": "x"}']
)
@pytest.mark.parametrize("media_type", [MEDIA_TYPE, "text/html", ""])
def test_whatever_a_server_answers_is_an_error_with_a_sentence(
    body: bytes, media_type: str
) -> None:
    error = error_of(502, {"Content-Type": media_type, "Retry-After": "soon"}, body)

    assert isinstance(error, FilestoreError)
    assert error.spec.status == 502 and error.spec.retryable
    assert error.sentence()


def test_an_answer_to_head_is_told_by_its_status_alone() -> None:
    assert isinstance(error_of(423, {}, b""), Locked)


def test_waiting_grows_keeps_to_its_bound_and_heeds_the_server() -> None:
    policy = RetryPolicy(base_s=1, cap_s=30, rng=random.Random(1))
    error, patient = StoreUnavailable(reason="x"), StoreUnavailable(reason="x", retry_after_s=50)

    assert 0.5 <= policy.delay_s(1, error) <= 1
    assert 4 <= policy.delay_s(4, error) <= 8
    assert 15 <= policy.delay_s(60, error) <= 30
    assert 50 <= policy.delay_s(1, patient) <= 51
    assert policy.delay_s(1, StoreUnavailable(reason="x", retry_after_s=10**6)) <= 301


@pytest.mark.parametrize(
    ("url", "token"),
    [
        ("files.example.org", "fst_x"),
        ("ftp://h", "fst_x"),
        ("http://user:pass@h", "fst_x"),
        ("http://h/?q", "fst_x"),
        ("http://h/files/api/v1", "fst_x"),
        ("http://h", ""),
        ("http://h", "fst\n_x"),
    ],
)
def test_a_wrong_address_or_token_is_a_setting_error_without_secrets(url: str, token: str) -> None:
    with pytest.raises(BadSetting) as caught:
        Transport(url, token)
    assert "pass" not in str(caught.value) and "fst" not in str(caught.value)
