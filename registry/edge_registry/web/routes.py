"""All pages, and who may see each. A test goes through every one of them with every role."""

from __future__ import annotations

from . import account_pages as account
from . import catalogue_pages as catalogue
from . import coverage_pages as coverage
from . import fleet_pages as fleet
from . import interface_pages as programs
from . import news_pages as news
from . import oidc_pages as oidc
from . import record_pages as record
from . import signal_pages as signals
from . import tail_pages as tail
from .app import ANYONE, SIGNED_IN, Page
from .news import PERMISSION

ROUTES = (
    Page("GET", "/", SIGNED_IN, fleet.home),
    Page("GET", "/sign-in", ANYONE, account.sign_in_form),
    Page("POST", "/sign-in", ANYONE, account.sign_in),
    Page("GET", "/sign-in/oidc", ANYONE, oidc.begin),
    Page("GET", oidc.BACK, ANYONE, oidc.back),
    Page("POST", "/sign-out", SIGNED_IN, account.sign_out),
    Page("GET", "/static/{name}", ANYONE, account.static),
    Page("GET", "/help", SIGNED_IN, account.show_help),
    Page("GET", "/fleet", "fleet", fleet.show_fleet),
    Page("GET", "/robots/{robot:path}", "fleet", fleet.show_robot),
    Page("GET", "/missions", "fleet", fleet.show_missions),
    Page("GET", "/logs/{log}/missions/{first:int}", "fleet", fleet.show_mission, "mission read"),
    Page("GET", "/episodes", "fleet", fleet.show_episodes, "episodes read"),
    Page("GET", news.PATH, PERMISSION, news.show_news),
    Page("GET", "/catalogue", "catalogue", catalogue.show_catalogue),
    Page("GET", "/catalogue/{digest}", "catalogue", catalogue.show_item),
    Page("GET", "/claims", "catalogue", catalogue.show_claims),
    Page("GET", "/claims/{digest}", "catalogue", catalogue.show_claim),
    Page("GET", "/coverage", "catalogue", coverage.show_envelopes),
    Page("GET", "/coverage/{digest}", "catalogue", coverage.show_coverage),
    Page("GET", "/coverage/{digest}/cell", "catalogue", coverage.show_cell, "coverage read"),
    Page("GET", "/exceptions", "catalogue", catalogue.show_exceptions),
    Page("GET", "/exceptions/{number:int}", "catalogue", catalogue.show_exception),
    Page("GET", "/logs/{log}/records/{seq:int}/lineage", "catalogue", catalogue.show_lineage),
    Page("GET", "/logs/{log}/records", "records", record.show_records, "records read"),
    Page("GET", "/logs/{log}/records/{seq:int}", "records", record.show_record, "record read"),
    Page("GET", "/logs/{log}/records/{seq:int}/bytes", "records", record.record_bytes, "record read"),
    Page("GET", "/logs/{log}/records/{seq:int}/proof", "records", record.record_proof, "record read"),
    Page("GET", "/logs/{log}/records/{seq:int}/signals", "records", signals.show_signals, "signals read"),
    Page("GET", "/tail", "records", tail.show_tail, "tail read"),
    Page("GET", "/packets", "packets", fleet.show_packets),
    Page("POST", "/packets", "packets", fleet.make_packet),
    Page("GET", "/packets/{number:int}", "packets", fleet.show_packet),
    Page("GET", "/packets/{number:int}/file", "packets", fleet.packet_file, "packet read"),
    Page("GET", "/people", "people", account.show_people),
    Page("GET", "/audit", "audit", account.show_audit),
    Page("GET", f"{programs.BASE}/openapi.json", SIGNED_IN, programs.description),
    Page("GET", programs.BASE + signals.SIGNALS.route, "records", signals.signals, "signals read"),
    *(Page("GET", path, "catalogue", handler) for path, handler in programs.PLACES),
)
