"""A broker with every transport and with rules of who may come in, and the certificates for it and its clients.

Only for a broker that takes ringmq's configuration. What a suite needs to know goes through the environment.
"""

import os
import pathlib
import shlex
import subprocess

from lib.harness import HOST, Broker, free_port

USERS = {"ann": "green tea", "bob": "black coffee"}
PROXIED = "203.0.113.7"  # the one address that a rule is about

# name → (transport and what belongs to it); each listens on a port of its own
LISTENERS = {
    "tls": 'transport = "tls"\n[listener.tls]\n{tls}',
    "mtls": 'transport = "tls"\n[listener.tls]\n{tls}\nclient_certificate = "required"\nclient_ca = "{files}/ca.pem"',
    "ws": 'transport = "ws"',
    "wss": 'transport = "wss"\n[listener.tls]\n{tls}',
    "proxy": '[listener.proxy]\ntrusted = ["127.0.0.0/8"]',
    "distrusting": '[listener.proxy]\ntrusted = ["192.0.2.0/24"]',
}

RULES = f"""
default = "deny"
[[rules]]
access = "allow"
topic = "all/#"
[[rules]]
access = "allow"
topic = "of/${{username}}/#"
[[rules]]
access = "allow"
action = "publish"
topic = "from/there"
address = "{PROXIED}"
"""


class SecureBroker(Broker):
    """The program of a broker's command line, with a configuration of its own below a directory."""

    def __init__(self, template, shards, log_path, directory):
        program = shlex.split(template)[0]
        self.files = pathlib.Path(directory).resolve()
        self.files.mkdir(parents=True, exist_ok=True)
        self.ports = {name: free_port() for name in LISTENERS}
        certificates(self.files)
        passwords(program, self.files / "users")
        (self.files / "acl.toml").write_text(RULES)
        (self.files / "ringmq.toml").write_text(self.configuration(shards))
        super().__init__(shlex.join([program, "--config", str(self.files / "ringmq.toml")]), shards, log_path, self.ports["tls"])

    def configuration(self, shards):
        tls = f'certificate = "{self.files}/server.pem"\nkey = "{self.files}/server.key"'
        text = f'[server]\nshards = {shards}\npin = false\n[acl]\nfile = "{self.files}/acl.toml"\n'
        text += f'[auth]\nmethods = ["certificate", "password"]\n[auth.password]\nfile = "{self.files}/users"\n'
        for name, port in self.ports.items():
            text += f'[[listener]]\naddress = "{HOST}:{port}"\n' + LISTENERS[name].format(tls=tls, files=self.files) + "\n"
        return text + f'[[listener]]\naddress = "unix:{self.files}/mqtt.sock"\nmode = "0600"\n'

    def environment(self):
        """For the suite: where each listener is, where the files are, where the broker writes its log."""
        out = {f"E2E_{name.upper()}_PORT": str(port) for name, port in self.ports.items()}
        return out | {"E2E_FILES": str(self.files), "E2E_LOG": str(pathlib.Path(self.log_path).resolve())}


def certificates(files):
    """An authority with a certificate for localhost and one for a client, and one that nobody trusts with another."""
    for authority, names in (("ca", ("server", "lamp")), ("stranger", ("intruder",))):
        openssl(files, "req", "-x509", *new_key(authority), "-out", f"{authority}.pem", "-days", "30",
                "-subj", f"/CN={authority} of the tests")
        for name in names:
            host = "localhost" if name == "server" else name
            openssl(files, "req", *new_key(name), "-out", f"{name}.csr", "-subj", f"/CN={host}")
            (files / f"{name}.ext").write_text(f"subjectAltName=DNS:{host}{',IP:127.0.0.1' if name == 'server' else ''}\n")
            openssl(files, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key",
                    "-CAcreateserial", "-days", "30", "-extfile", f"{name}.ext", "-out", f"{name}.pem")


def new_key(name):
    return "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key"


def openssl(files, *arguments):
    # umask: keys are for their owner alone, or the broker complains.
    subprocess.run(["openssl", *arguments], cwd=files, umask=0o077, check=True, capture_output=True)


def passwords(program, file):
    lines = "".join(f"{name}:{password}\n" for name, password in USERS.items())
    subprocess.run([program, "passwd", "--batch", "-", str(file)], input=lines, text=True, check=True, capture_output=True)


def port(name):
    """Of the listener of that name, in a suite."""
    return int(os.environ[f"E2E_{name.upper()}_PORT"])


def file(name):
    """The path of a certificate or key, in a suite."""
    return str(pathlib.Path(os.environ["E2E_FILES"], name))
