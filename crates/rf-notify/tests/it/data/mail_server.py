"""A mail server on a free port of the loopback: prints the port, then each mail as a line of JSON.

mail_server.py plain|starttls|tls CERTIFICATE KEY; with TLS it asks for a login (user, pass). Ends with its standard input.
"""

import asyncio
import email.policy
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult


put_off = set()


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("unknown@"):
            return "550 5.1.1 no such user"
        if address.startswith("busy@"):
            return "451 4.3.0 try again later"
        if address.startswith("slow@") and address not in put_off:
            put_off.add(address)
            return "451 4.3.0 try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        told = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "subject": mail["subject"],
            "bcc": mail["bcc"],
            "messageId": mail["message-id"],
            "tls": server.transport.get_extra_info("sslcontext") is not None,
            "text": mail.get_payload(decode=True).decode().replace("\r\n", "\n"),
        }
        print(json.dumps(told), flush=True)
        return "250 2.0.0 taken"


def authenticate(server, session, envelope, mechanism, data):
    return AuthResult(success=(data.login, data.password) == (b"user", b"pass"), handled=False)


async def main(mode, certificate, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    options = {"hostname": "localhost"}
    if mode != "plain":
        options |= {
            "authenticator": authenticate,
            "auth_required": True,
            "auth_require_tls": mode == "starttls",
        }
    if mode == "starttls":
        options |= {"tls_context": context, "require_starttls": True}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(Handler(), **options),
        "localhost",
        0,
        ssl=context if mode == "tls" else None,
        family=2,
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(main(*sys.argv[1:]))
