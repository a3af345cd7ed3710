"""Announce a published prompt set: the event that starts a retraining."""

from uuid import NAMESPACE_URL, UUID, uuid5

from prefect.client.orchestration import get_client
from prefect.events import Event, Resource

from fire_opd.prompts import PromptSet

PUBLISHED = "fire-opd.prompts.published"


def event_id(published: PromptSet) -> UUID:
    """The same for the same content under the same name: Prefect acts once on an id."""
    return uuid5(NAMESPACE_URL, f"{PUBLISHED}/{published.reference}")


def announce(published: PromptSet) -> UUID:
    """Send the event and return its id; when this returns, the server has it."""
    event = Event(
        id=event_id(published),
        event=PUBLISHED,
        resource=Resource(
            {
                "prefect.resource.id": f"fire-opd.prompts.{published.name}.{published.fingerprint}",
                "prefect.resource.name": published.reference,
            }
        ),
        payload={"reference": published.reference, "name": published.name, "prompts": published.prompts},
    )
    with get_client(sync_client=True) as client:
        client.request("POST", "/events", json=[event.model_dump(mode="json")])
    return event.id
