"""Plays a Kerberos service with a keytab against tickets of many ages, and says which of them it accepts.

acceptor.py KEYTAB PRINCIPAL CCACHE...: for each credential cache (which holds a ticket for PRINCIPAL) one JSON line
with what an acceptor bound to that principal ("strict": it looks up exactly this name, kvno and enctype) and one that
takes any key of the file ("any") answer: the client's name, or the error.
"""

import json
import sys

import gssapi

KRB5 = gssapi.MechType.kerberos


def accept(keytab, ccache, name, strict):
    initiator = gssapi.SecurityContext(
        name=name, mech=KRB5, usage="initiate", creds=gssapi.Credentials(usage="initiate", store={"ccache": ccache})
    )
    # A replay cache would refuse the second of two attempts with one ticket in the same microsecond.
    store = {"keytab": keytab, "rcache": "none:"}
    acceptor = gssapi.SecurityContext(
        usage="accept", creds=gssapi.Credentials(name=name if strict else None, usage="accept", store=store)
    )
    token = None
    while not (initiator.complete and acceptor.complete):
        token = initiator.step(token)
        if token is None:
            break
        token = acceptor.step(token)
    return str(acceptor.initiator_name)


def attempt(*args):
    try:
        return {"client": accept(*args)}
    except gssapi.exceptions.GSSError as error:
        return {"error": str(error)}


keytab, principal, *ccaches = sys.argv[1:]
name = gssapi.Name(principal, gssapi.NameType.kerberos_principal)
for ccache in ccaches:
    result = {"strict": attempt(keytab, ccache, name, True), "any": attempt(keytab, ccache, name, False)}
    print(json.dumps(result), flush=True)
