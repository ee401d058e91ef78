"""A Kafka broker with doors that ask who one is: a password over TLS, or a certificate."""

import contextlib
import os
import socket
import subprocess
from pathlib import Path

from deploy.authority import Authority
from tests.support.certificates import certify
from tests.support.server import free_ports
from tests.support.servers import Program, make

USER, PASSWORD = "reader", "s3cret-words-of-a-topic"
_MODULES = "org.apache.kafka.common.security"


def secure(folder: Path) -> Program:
    """One that is running. `doors` has `sasl` and `certificate`; its address is open to all. `folder` gets `certs`."""
    make("kafka", folder)  # brings the program
    certificates = certify(folder / "certs", Authority.new(), "localhost")
    pem = folder / "broker.pem"
    pem.write_bytes((certificates / "key.pem").read_bytes() + (certificates / "cert.pem").read_bytes())
    plain, controller, sasl, known = free_ports(4)
    said = folder / "server.properties"
    said.write_text(f"""
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},SASL_SSL://:{sasl},SSL://:{known}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SASL_SSL://localhost:{sasl},SSL://localhost:{known}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL
log.dirs={folder}/data
offsets.topic.replication.factor=1
ssl.keystore.type=PEM
ssl.keystore.location={pem}
ssl.truststore.type=PEM
ssl.truststore.location={certificates}/ca.pem
listener.name.ssl.ssl.client.auth=required
listener.name.sasl_ssl.sasl.enabled.mechanisms=SCRAM-SHA-512,SCRAM-SHA-256,PLAIN
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={_MODULES}.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config={_MODULES}.scram.ScramLoginModule required;
listener.name.sasl_ssl.plain.sasl.jaas.config={_MODULES}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";
""")
    tools = Path(os.environ.get("AIMASS_SERVERS") or Path.home() / ".cache/aimass-servers")
    java = ["java", "-Xmx512m", "-cp", f"{tools}/kafka/libs/*"]
    scram = [f"SCRAM-SHA-{bits}=[name={USER},password={PASSWORD}]" for bits in (512, 256)]
    subprocess.run(
        [*java, "kafka.tools.StorageTool", "format", "-t", "AAAAAAAAQACAAAAAAAAAAA", "-c", str(said)]
        + [word for each in scram for word in ("--add-scram", each)],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    doors = {"sasl": f"localhost:{sasl}", "certificate": f"localhost:{known}"}
    where = f"127.0.0.1:{plain}"
    command = [*java, "kafka.Kafka", str(said)]
    return Program("kafka", command, where, folder, lambda: _listens(plain, sasl, known), doors=doors).start()


def _listens(*ports: int) -> bool:
    with contextlib.suppress(OSError):
        for port in ports:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
        return True
    return False
