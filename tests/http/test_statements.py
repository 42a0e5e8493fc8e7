"""``/quota/statement`` and ``/quota/balance``: streamed, in two forms, to who may see them."""

import csv
import io

import jsonschema
import pytest
import sqlalchemy as sa

from filestore.app import Service
from filestore.meta.tables import groups, quota_journal
from filestore.quota import statement
from tests.http.api import Reply
from tests.http.conftest import GROUP, Cast

QUOTA = f"/api/v1/groups/{GROUP}/quota"
STATEMENT = f"{QUOTA}/statement"
FILES = f"/api/v1/groups/{GROUP}/files"


async def fill(cast: Cast) -> None:
    for name in ("a", "folder/b"):
        assert (await cast.member.put(f"{FILES}/{name}", data=b"x" * 1000)).status == 201
    assert (await cast.manager.delete(f"{FILES}/a?permanent=true")).status == 204


def table(answer: Reply) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(answer.body.decode(), newline=""), strict=True))


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statement, "PAGE", 2)


async def test_a_statement_is_one_document_that_the_openapi_document_describes(cast: Cast) -> None:
    await fill(cast)
    answer = await cast.manager.get(STATEMENT)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.headers["Transfer-Encoding"] == "chunked"
    found = answer.json
    described = (await cast.admin.get("/api/v1/openapi.json")).json
    schema = {"$ref": "#/components/schemas/StatementAnswer", "components": described["components"]}
    jsonschema.validate(found, schema)

    assert found["group"] == {"id": cast.group, "name": GROUP}
    assert [entry["seq"] for entry in found["entries"]] == list(range(1, found["last_seq"] + 1))
    assert found["opening"]["used_bytes"] == 0 and found["closing"]["used_bytes"] == 1000
    assert found["entries"][-1]["balance"] == found["closing"]
    assert {entry["actor"] for entry in found["entries"]} == {f"member-{GROUP}", f"manager-{GROUP}"}
    for lines in found["totals"].values():
        assert sum(line["bytes"] for line in lines) == 1000
    assert not any(found["unexplained"].values())


async def test_csv_comes_by_header_or_by_query(cast: Cast) -> None:
    await fill(cast)
    by_header = await cast.manager.get(STATEMENT, headers={"Accept": "text/csv"})
    by_query = await cast.manager.get(f"{STATEMENT}?format=csv")
    assert by_header.body == by_query.body
    assert by_query.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert f"{GROUP}-statement.csv" in by_query.headers["Content-Disposition"]
    lines = table(by_query)
    assert (lines[0]["line"], lines[0]["used_after"]) == ("opening", "0")
    (closing,) = [line for line in lines if line["line"] == "closing"]
    assert closing["used_after"] == "1000"
    accepts_both = {"Accept": "application/json, text/csv;q=0.5"}
    assert (await cast.manager.get(STATEMENT, headers=accepts_both)).json["last_seq"] > 0


async def test_periods_and_balances_are_of_any_moment(cast: Cast, service: Service) -> None:
    await fill(cast)
    whole = (await cast.manager.get(STATEMENT)).json
    middle = whole["entries"][2]
    at = middle["at"].replace("Z", "%2B00:00")
    later = (await cast.manager.get(f"{STATEMENT}?from={at}")).json
    sooner = (await cast.manager.get(f"{STATEMENT}?to={at}")).json
    assert later["opening"] == sooner["closing"]
    assert sooner["entries"] + later["entries"] == whole["entries"]
    balance = (await cast.viewer.get(f"{QUOTA}/balance?at={at}")).json
    assert {name: balance[name] for name in sooner["closing"]} == sooner["closing"]
    assert balance["seq"] == sooner["last_seq"]
    now = (await cast.viewer.get(f"{QUOTA}/balance")).json
    assert (now["at"], now["seq"], now["used_bytes"]) == (None, whole["last_seq"], 1000)
    old = (await cast.viewer.get(f"{QUOTA}/balance?at=2020-01-01&tz=Asia/Shanghai")).json
    assert (old["at"], old["seq"]) == ("2019-12-31T16:00:00.000Z", 0)


async def test_managers_and_site_admins_see_statements_and_all_members_balances(cast: Cast) -> None:
    paths = (STATEMENT, f"{QUOTA}/balance")
    statuses = {
        name: [(await getattr(cast, name).get(path)).status for path in paths]
        for name in ("admin", "manager", "member", "viewer", "outsider")
    }
    assert statuses == {
        "admin": [200, 200],
        "manager": [200, 200],
        "member": [403, 200],
        "viewer": [403, 200],
        "outsider": [404, 404],
    }


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=yesterday", "from"),
        ("to=2026-02-30", "to"),
        ("from=2026-02-01&to=2026-01-01", "to"),
        ("tz=Nowhere/Here", "tz"),
        ("format=xml", "format"),
        ("begin=2026-01-01", "begin"),
        ("from=2026-01-01&from=2026-01-02", "from"),
    ],
)
async def test_what_is_no_period_is_refused(cast: Cast, query: str, field: str) -> None:
    refused = await cast.manager.get(f"{STATEMENT}?{query}")
    assert (refused.status, refused.json["field"]) == (400, field)


async def test_a_journal_is_verified_as_a_job(cast: Cast, service: Service) -> None:
    await fill(cast)
    jobs = "/api/v1/admin/jobs"

    async def report(**wishes: str) -> dict[str, object]:
        made = await cast.admin.post(jobs, {"kind": "verify-journal", **wishes})
        assert made.status == 202, made.body
        path = f"{jobs}/{made.json['id']}"
        while (job := (await cast.admin.get(path)).json)["ended_at"] is None:
            continue
        return dict(job)

    job = await report()
    assert (job["state"], job["report"]["result"]) == ("done", "intact")  # type: ignore[index]
    change = groups.update().where(groups.c.name == GROUP).values(used=groups.c.used + 1)
    await service.services.db.transact(lambda tx: tx.execute(change))
    (finding,) = (await report(group=GROUP))["report"]["findings"]  # type: ignore[index]
    count = sa.select(sa.func.count()).select_from(quota_journal)
    rows = await service.services.db.read(lambda tx: tx.scalar(count))
    assert (finding["kind"], finding["group_name"], finding["seq"]) == ("counter", GROUP, rows)
    missing = await report(group="nobody")
    assert (missing["state"], missing["error"]["code"]) == ("failed", "not-found")  # type: ignore[index]
