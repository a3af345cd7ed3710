"""`fire-opd prompts publish`: put a prompt set into the store and tell the server, which starts a retraining."""

import os
import sys

from fire_opd.errors import FireOpdError, print_error
from fire_opd.prompts import publish_prompts
from fire_opd.storage import open_store, state_folder
from flows.environment import prepare_environment


def main(path: str, name: str) -> int:
    """Publish and announce; the exit status is 1 when the set is bad or the server does not answer."""
    try:
        store = open_store()
        published = publish_prompts(store, path, name)
    except FireOpdError as error:
        print_error(error)
        return error.exit_status
    print(f"published  {published.reference}  ({published.prompts} prompts)  {store.url(published.folder)}")
    if not os.environ.get("PREFECT_API_URL"):
        print("not announced: PREFECT_API_URL is not set; watch-prompts finds the set at its next run")
        return 0
    prepare_environment(state_folder() / "prefect")
    from httpx import HTTPError  # only now: prefect reads its environment when it is imported

    from flows.events import announce

    try:
        print(f"announced  event {announce(published)}")
    except HTTPError as error:
        advice = "publish again, or let watch-prompts find the set"
        print(f"not announced: {os.environ['PREFECT_API_URL']}: {error}; {advice}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
