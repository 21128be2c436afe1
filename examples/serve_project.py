"""Serve a project of the browser tool from Python: `python examples/serve_project.py PROJECT IMAGES [MODEL]`.

`anymask serve PROJECT --images IMAGES` does the same. It listens on this machine alone; Ctrl-C ends it. Needs
`pip install 'anymask[server,export]'` and, in a checkout, `make web`.
"""

import socket
import sys
from pathlib import Path

import anymask
from anymask.engine.store import open_project
from anymask.server.app import create_app
from anymask.server.run import run

project_folder, images = map(Path, sys.argv[1:3])
name = sys.argv[3] if len(sys.argv) > 3 else "anymask-s"

with open_project(project_folder) as project, socket.create_server(("127.0.0.1", 0)) as listener:
    # Images are added by reference, while the server runs; annotations are on the disk as soon as they are made.
    app = create_app(project, anymask.load(name), model_name=name, folders=[images])
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    run(app, listener, ready=lambda: print(address, flush=True))

    for image in project.images.all():
        print(f"{image.name}: {image.num_annotations} annotations")
