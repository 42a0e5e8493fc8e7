"""All routes together, as one aiohttp application."""

from dataclasses import replace

from aiohttp import web

from filestore.http import (
    audit_log,
    events,
    groups,
    health,
    ietf_routes,
    jobs,
    members,
    openapi,
    people,
    quotas,
    reports,
    sheet,
    site,
    space,
    statements,
    temporary,
    tokens,
    trash,
    tree,
    uploads,
    versions,
    webhooks,
)
from filestore.http.call import Services
from filestore.http.connection import CORS, METRICS
from filestore.http.cors import Cors
from filestore.http.middleware import make_guard, stamp
from filestore.http.openapi import DOCUMENT, encode
from filestore.http.routing import Access, Route, mount
from filestore.settings import Settings

MODULES = (
    *(health, openapi, groups, members, people, tokens),
    *(ietf_routes, uploads, tree, versions, trash, space, jobs, temporary),
    *(webhooks, events),
    *(sheet, site, reports, quotas, statements, audit_log),
)
"""Every module with routes; a new one is added here and nowhere else."""


def all_routes(settings: Settings) -> tuple[Route, ...]:
    """Every route that the service has with these settings."""
    metrics = health.METRICS
    if settings.server.metrics == "public":
        metrics = replace(metrics, access=Access.PUBLIC)
    return (*(route for module in MODULES for route in module.ROUTES), metrics)


def make_application(services: Services) -> web.Application:
    """The application, ready for ``http.connection.make_runner``."""
    routes = all_routes(services.settings)
    cors = Cors(services.settings.server.cors_origins, routes)
    app = web.Application(middlewares=[make_guard(services, cors)])
    app.on_response_prepare.append(stamp)
    app.on_response_prepare.append(cors.stamp)
    app[CORS] = cors
    app[DOCUMENT] = encode(routes)
    app[METRICS] = services.metrics
    app[health.WHOLE] = health.WholeService(services)
    app[health.READINESS] = health.Readiness(services)
    mount(app, routes, services)
    return app
