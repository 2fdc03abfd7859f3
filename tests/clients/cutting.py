"""A TCP proxy that lets a request through and loses its answer."""

import socket
import threading
from urllib.parse import urlsplit


class CuttingProxy:
    """Loses the answers to the next `cuts` requests whose first line holds `word`; what else comes goes through."""

    def __init__(self, target, word, cuts):
        self.target, self.word, self.cuts, self.lost = urlsplit(target), word.encode(), cuts, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def __enter__(self):
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection((self.target.hostname, self.target.port))
            state = {"cut": False}
            threading.Thread(target=self.forward, args=(client, server, state), daemon=True).start()
            threading.Thread(target=self.back, args=(server, client, state), daemon=True).start()

    def forward(self, client, server, state):
        try:
            while data := client.recv(65536):
                if self.cuts and self.word in data.split(b"\r\n", 1)[0]:
                    self.cuts -= 1
                    state["cut"] = True
                server.sendall(data)
        except OSError:
            pass

    def back(self, server, client, state):
        try:
            while data := server.recv(65536):
                if state["cut"]:
                    self.lost += 1
                    break
                client.sendall(data)
        except OSError:
            pass
        # Ends both directions, so that the client sees its connection break.
        for end in (client, server):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()
