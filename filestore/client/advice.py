"""What ``filestore doctor`` says of each thing that it finds: what is wrong, and what to change.

Lines for the proxies that are common: where one of them may be the cause, there is a line for each.
Sources: nginx documentation (ngx_http_core_module, ngx_http_proxy_module, ngx_http_ssl_module);
Caddy documentation (Caddyfile: global options, reverse_proxy, request_body, tls, matchers); Traefik
documentation (EntryPoints, Buffering, Headers, Services, TLS options).
"""

from typing import Final

NGINX: Final = "nginx"
CADDY: Final = "Caddy"
TRAEFIK: Final = "Traefik"
FILESTORE: Final = "filestore"
PROXIES: Final = (NGINX, CADDY, TRAEFIK)

Advice = dict[str, list[str]]
"""What to change, for each program."""

ADVICE: Final[dict[str, Advice]] = {
    "buffering": {
        NGINX: ["proxy_request_buffering off;", "proxy_http_version 1.1;"],
        CADDY: ["remove request_buffers from reverse_proxy"],
        TRAEFIK: ["remove the middleware buffering from the router"],
    },
    "truncation": {
        NGINX: ["proxy_request_buffering off;", "proxy_http_version 1.1;"],
        CADDY: ["remove request_body and request_buffers"],
        TRAEFIK: ["remove the middleware buffering from the router"],
    },
    "body-size": {
        NGINX: ["client_max_body_size 0;"],
        CADDY: ["remove max_size from request_body"],
        TRAEFIK: ["remove maxRequestBodyBytes from the middleware buffering"],
    },
    "header-size": {
        NGINX: ["large_client_header_buffers 4 128k;"],
        CADDY: ["global options: servers { max_header_size 192KiB }"],
        TRAEFIK: ["--entryPoints.websecure.http.maxHeaderBytes=196608"],
        FILESTORE: ["server.max_header_size"],
    },
    "request-headers": {
        NGINX: ["remove proxy_pass_request_headers off; and proxy_set_header Upload-… lines"],
        CADDY: ["remove header_up -Upload-* and header_up -Tus-*"],
        TRAEFIK: ["remove Upload-* and Tus-* from customRequestHeaders"],
    },
    "answer-headers": {
        NGINX: ["remove proxy_hide_header lines for Tus-*, Upload-* and Location"],
        CADDY: ["remove header_down -Upload-*, -Tus-* and -Location"],
        TRAEFIK: ["remove Upload-*, Tus-* and Location from customResponseHeaders"],
    },
    "location": {
        NGINX: [
            "proxy_set_header Host $http_host;",
            "proxy_set_header X-Forwarded-Host $http_host;",
            "proxy_set_header X-Forwarded-Proto $scheme;",
        ],
        CADDY: ["nothing: it passes them; trust it in filestore"],
        TRAEFIK: ["passHostHeader: true"],
        FILESTORE: ["server.trusted_proxies = [the proxy's address]", "or server.base_url"],
    },
    "methods": {
        NGINX: ["remove limit_except and if ($request_method …) from the location"],
        CADDY: ["remove method from the matcher"],
        TRAEFIK: ["remove Method(…) from the router's rule"],
    },
    "cut": {
        NGINX: ["proxy_send_timeout 120s;", "proxy_read_timeout 120s;", "or see its error log"],
        CADDY: ["global options: remove read_body and write from servers { timeouts }"],
        TRAEFIK: [
            "--entryPoints.websecure.transport.respondingTimeouts.readTimeout=0 (its default of 60s"
            " ends every longer upload)",
        ],
        FILESTORE: ["look at its log for the same moment"],
    },
    "clock": {FILESTORE: ["let NTP set the clock of the server (and of this machine)"]},
    "tls": {
        NGINX: ["ssl_protocols TLSv1.2 TLSv1.3;"],
        CADDY: ["remove protocols from tls: its default is 1.2 and above"],
        TRAEFIK: ["tls.options: minVersion: VersionTLS12"],
    },
    "plain": {
        NGINX: ["listen 443 ssl; and a redirect from port 80"],
        CADDY: ["name the host instead of :80; it gets a certificate by itself"],
        TRAEFIK: ["a router with tls.certResolver"],
        FILESTORE: ["listen on 127.0.0.1 and put a proxy with TLS in front"],
    },
    "token": {FILESTORE: ["filestore token create makes a new one; FILESTORE_TOKEN=…"]},
    "ready": {FILESTORE: ["look at its log; /readyz names what it cannot reach"]},
    "reach": {FILESTORE: ["is it running, and is the address right?"]},
}
