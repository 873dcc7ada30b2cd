"""
A model behind an address
=========================

Somebody else runs the model and charges by the call. What does it do, what does finding out cost, and what would have to change
for another answer?
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from sklearn.ensemble import RandomForestClassifier

import locum
from locum.datasets import load
from locum.explain import CounterfactualExplainer, ShapleyExplainer
from locum.plots import plot_attribution

# %%
# A service to ask, here on this machine: rows in, answers out, as JSON.

table = load("breast_cancer")
parts = table.split(0)
forest = RandomForestClassifier(300, random_state=0).fit(parts.train.X.to_numpy(), parts.train.y)


class Service(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        answer = json.dumps({"answers": forest.predict(np.array(asked["rows"])).tolist()}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
threading.Thread(target=server.serve_forever, daemon=True).start()
address = f"http://127.0.0.1:{server.server_port}"

# %%
# From here on it is ten lines. The price is known before, and every answer is kept.

target = locum.target(address, price=0.01, name="the service")
rows, fresh = parts.ask.X, parts.score.X
print(target.estimate(len(rows) + len(fresh)))
families = ["tree", "rule list", "sparse linear"]
found = locum.frontier(target, rows, fresh=fresh, budget=150, sizes=(1, 2, 4, 8), families=families)
standin = found.at_most(4)
print(standin)
print(target.account())

# %%
# One answer, in parts: Shapley values with their intervals, and how faithful they are on fresh rows near this one.

(shares,) = ShapleyExplainer(target, rows, background=8, samples=8000, random_state=0).explain(fresh.iloc[:1])
plot_attribution(shares, most=8)

# %%
# And what would have changed it. The target itself said so, for exactly these values.

(changes,) = CounterfactualExplainer(target, rows, random_state=0).explain(fresh.iloc[:1])
print(changes)
server.shutdown()
server.server_close()

assert standin.fidelity[0].lower > 0.8
assert len(changes) > 0
