"""Resumable uploads: a tus server that mounts into an aiohttp app in one call, and runs as one command.

    uploads = tusserver.setup(app, "/files/", upload_dir="./data")
    uploads.after_finish.append(on_file)
"""

from tusserver.config import Config, Cors
from tusserver.errors import Refuse, TusError
from tusserver.hooks.base import Event, Events
from tusserver.model import Limits, Metadata, Upload
from tusserver.storage.base import StorageUnfit
from tusserver.storage.local import LocalStorage
from tusserver.web.app import Uploads, setup
from tusserver.web.runner import Runner

__all__ = [
    "Config",
    "Cors",
    "Event",
    "Events",
    "Limits",
    "LocalStorage",
    "Metadata",
    "Refuse",
    "Runner",
    "StorageUnfit",
    "TusError",
    "Upload",
    "Uploads",
    "setup",
]
__version__ = "0.1.0"
