"""How the log centre is put together."""

from collections.abc import Sequence

from services.kit.app import App, Runtime
from services.kit.bus import Event
from services.kit.egress import Egress
from services.kit.forgetting import dropping
from services.logs.config import Config
from services.logs.database import open_database, schema
from services.logs.ingest.api import Intake
from services.logs.ingest.forgotten import Forgotten
from services.logs.ingest.segments import Segments
from services.logs.ingest.service import Ingest
from services.logs.monitors.api import MonitorsApi
from services.logs.monitors.service import Monitors
from services.logs.monitors.store import Store as MonitorStore
from services.logs.privacy.service import Privacy
from services.logs.privacy.store import PrivacyStore
from services.logs.search.api import LogsApi
from services.logs.search.index import Index
from services.logs.search.service import Search
from services.logs.subscriptions.api import SubscriptionsApi
from services.logs.subscriptions.channel import Channels
from services.logs.subscriptions.channel_webhook import Webhooks
from services.logs.subscriptions.deliveries import Deliveries
from services.logs.subscriptions.secrets import Secrets
from services.logs.subscriptions.service import Subscriptions
from services.logs.subscriptions.store import Store as SubscriptionStore


def build(config: Config, runtime: Runtime) -> App:
    """The log centre of a process."""
    store = runtime.home / "logs-store"
    db = open_database(config.database_url.get_secret_value(), runtime.home, runtime.credentials)
    privacy = Privacy(PrivacyStore(db), runtime.vault.derive)
    segments = Segments(store / "records", config.segment_bytes, config.segment_seconds)
    keys = runtime.storage.keys
    ingest = Ingest(segments, privacy.clean, runtime.space.check, keys)
    search = Search(ingest, Index(store / "index"))
    forgotten = Forgotten(store / "forgotten", ingest, search.forget)

    egress, vault, now = Egress(runtime.settings.egress_allow), runtime.vault, runtime.now
    kept = SubscriptionStore(db)
    channels = Channels(Webhooks(egress, vault, now, config.webhook_seconds))
    subscriptions = Subscriptions(kept, ingest, search, channels, vault, now)
    deliveries = Deliveries(kept, channels, now, config.webhook_schedule)
    subscriptions.on_due = deliveries.wake
    monitors = Monitors(MonitorStore(db), ingest, now)

    secrets = Secrets(kept, vault)

    async def hear(received: Sequence[Event]) -> None:
        await privacy.hear(received)
        await secrets.hear(received)

    intake = Intake(runtime.bus, ingest, hear)

    async def close_ingest() -> None:
        ingest.close()

    return App(
        rpc={
            "aimass.v1.Logs": LogsApi(search),
            "aimass.v1.Subscriptions": SubscriptionsApi(subscriptions),
            "aimass.v1.Monitors": MonitorsApi(monitors),
        },
        database=db,
        schema=schema,
        start=[privacy.load, forgotten.load, ingest.open],
        tasks=[
            secrets.renew,
            *([keys.follow] if keys else []),  # so that no batch waits for the store of keys
            *(intake.run, search.follow, subscriptions.follow, deliveries.run, monitors.follow),
        ],
        close=[egress.close, search.close, close_ingest],
        forget=[dropping(db, schema.metadata), forgotten.forget],
    )
