#!/usr/bin/env python3
"""Writes the dashboards of grafana/dashboards/: the one place to change them.

    python3 grafana/build.py            writes the files
    python3 grafana/build.py --check    says which are out of date, and fails if any is

A panel is one line: title, unit, and its queries with their legends. Rows of panels fill the width.
"""

import json
import pathlib
import sys

FOLDER = pathlib.Path(__file__).parent / "dashboards"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
RATE = "$__rate_interval"
WIDTH, HEIGHT = 24, 8


def panel(title, unit, *queries, kind="timeseries", stack=False, help=""):
    """A panel; each query is (expression, legend). `help` is shown behind the panel's (i)."""
    made = {
        "type": kind,
        "title": title,
        "description": help,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
        "targets": [
            {
                "datasource": SOURCE,
                "expr": expression,
                "legendFormat": legend,
                "refId": chr(ord("A") + index),
                **({"instant": True, "range": False} if kind in ("stat", "bargauge", "gauge") else {}),
            }
            for index, (expression, legend) in enumerate(queries)
        ],
    }
    if kind == "timeseries":
        custom = {"drawStyle": "line", "fillOpacity": 30 if stack else 8, "lineWidth": 1, "showPoints": "never"}
        custom["stacking"] = {"mode": "normal" if stack else "none"}
        made["fieldConfig"]["defaults"].update({"custom": custom, "min": 0})
        made["options"] = {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    if kind in ("stat", "bargauge"):
        made["options"] = {"reduceOptions": {"calcs": ["lastNotNull"]}, "textMode": "auto", "orientation": "auto"}
    return made


def stat(title, unit, *queries, help="", thresholds=None):
    made = panel(title, unit, *queries, kind="stat", help=help)
    if thresholds:
        steps = [{"color": color, "value": value} for value, color in thresholds]
        made["fieldConfig"]["defaults"]["thresholds"] = {"mode": "absolute", "steps": steps}
    return made


def dashboard(uid, title, description, rows, variables=()):
    panels, y = [], 0
    for heading, row in rows:
        panels.append({"type": "row", "title": heading, "collapsed": False, "panels": [],
                       "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": y}})
        y += 1
        for line in row:
            height = 4 if all(p["type"] == "stat" for p in line) else HEIGHT
            for index, made in enumerate(line):
                made["gridPos"] = {"h": height, "w": WIDTH // len(line), "x": index * (WIDTH // len(line)), "y": y}
                panels.append(made)
            y += height
    for number, made in enumerate(panels, start=1):
        made["id"] = number
    listed = [{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus",
               "current": {"text": "Larder Prometheus", "value": "larder-prometheus"}}]
    for name, label, query in variables:
        listed.append({"name": name, "label": label, "type": "query", "datasource": SOURCE, "query": query,
                       "definition": query, "refresh": 2, "includeAll": True, "multi": True, "allValue": ".*",
                       "current": {"text": ["All"], "value": ["$__all"]}, "sort": 1})
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["larder"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "5s",
        "time": {"from": "now-15m", "to": "now"},
        "timezone": "browser",
        "graphTooltip": 1,
        "links": [{"type": "dashboards", "tags": ["larder"], "title": "Larder", "asDropdown": True}],
        "templating": {"list": listed},
        "annotations": {"list": [{
            "name": "Alerts", "datasource": SOURCE, "enable": True, "iconColor": "red",
            "expr": 'ALERTS{alertname=~"Larder.*", alertstate="firing"}', "titleFormat": "{{alertname}}",
        }]},
        "panels": panels,
    }


def rate(metric, by="", where=""):
    total = f"rate({metric}{{{where}}}[{RATE}])"
    return f"sum by ({by}) ({total})" if by else f"sum({total})"


def quantile(q, metric, by="", where=""):
    inside = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({inside}) (rate({metric}_bucket{{{where}}}[{RATE}])))"


NODE = 'node=~"$node"'
PX = 'instance=~"$instance"'

OVERVIEW = dashboard("larder-overview", "Larder / Overview", "Is the cluster well? How much load, how fast, how full?", [
    ("Now", [[
        stat("Processes that do not answer", "none", ('count(up{job="larder"} == 0) or vector(0)', ""),
             thresholds=[(None, "green"), (1, "red")]),
        stat("Nodes", "none", ('larder_topology_nodes', "{{state}}")),
        stat("Slots that nobody serves", "none", ("larder_topology_slots_unserved", ""),
             thresholds=[(None, "green"), (1, "red")]),
        stat("Shards", "none", ("larder_topology_shards", "are"), ("larder_topology_shards_wanted", "wanted"),
             ("max(larder_topology_recommended_shards)", "recommended")),
        stat("Keys", "short", ("sum(redis_db_keys)", "")),
        stat("Epoch", "none", ("larder_topology_epoch", "")),
    ]]),
    ("Clients", [[
        panel("Requests a second", "reqps", ("larder:proxy_requests:rate", "through the proxies"),
              ("larder:node_commands:rate", "at the nodes"),
              help="A command over several nodes is one request and several commands."),
        panel("Latency at the proxies", "s", ("larder:proxy_latency_seconds:p50", "half"),
              ("larder:proxy_latency_seconds:p99", "99 of 100"), ("larder:proxy_latency_seconds:p999", "999 of 1000"),
              help="From a request's arrival to its reply."),
        panel("Errors a second", "reqps", (rate("larder_proxy_errors_total", "kind"), "{{kind}}"), stack=True,
              help="Error replies that clients got, by their code."),
    ], [
        panel("Hit ratio", "percentunit", ("larder:hit_ratio", "lookups that found their key")),
        panel("Connections", "short", ("sum(larder_proxy_connected_clients)", "to the proxies"),
              ("sum(redis_connected_clients)", "to the nodes, the proxies' included")),
        panel("Network", "Bps", (rate("larder_proxy_received_bytes_total", "", 'from="clients"'), "from clients"),
              (rate("larder_proxy_sent_bytes_total", "", 'to="clients"'), "to clients")),
    ]]),
    ("Nodes and processes", [[
        panel("Commands a second", "reqps", (rate("redis_commands_processed_total", "node"), "{{node}}"), stack=True),
        panel("Memory of the data", "bytes", ("redis_memory_used_bytes", "{{node}}"), stack=True),
        panel("CPU of each process", "percentunit", (f"rate(process_cpu_seconds_total[{RATE}])", "{{instance}}"),
              help="1 is one core."),
    ], [
        panel("Memory of each process", "bytes", ("process_resident_memory_bytes", "{{instance}}")),
        panel("File descriptors", "short", ("process_open_fds", "{{instance}}"), ("process_max_fds", "{{instance}} may have")),
        panel("Uptime", "s", ("larder_uptime_seconds", "{{instance}}"), help="A line that falls to 0 is a restart."),
    ]]),
])

PROXY = dashboard("larder-proxy", "Larder / Proxy", "What clients see, and what the proxies do for it.", [
    ("Clients", [[
        panel("Requests a second", "reqps", (rate("larder_proxy_requests_total", "family", PX), "{{family}}"), stack=True),
        panel("Latency", "s", (quantile(0.5, "larder_proxy_request_seconds", "", PX), "half"),
              (quantile(0.99, "larder_proxy_request_seconds", "", PX), "99 of 100"),
              (quantile(0.999, "larder_proxy_request_seconds", "", PX), "999 of 1000")),
        panel("Errors a second", "reqps", (rate("larder_proxy_errors_total", "kind", PX), "{{kind}}"), stack=True),
    ], [
        panel("Connections", "short", (f"sum by (instance) (larder_proxy_connected_clients{{{PX}}})", "{{instance}}"), stack=True),
        panel("Connections a second", "cps", (rate("larder_proxy_connections_total", "", PX), "taken"),
              (rate("larder_proxy_rejected_connections_total", "", PX), "turned away"),
              (rate("larder_proxy_slow_readers_total", "", PX), "cut off, did not read")),
        panel("Clients not read from, for want of room", "cps", (rate("larder_proxy_stalls_total", "", PX), "stalls a second"),
              help="A client whose replies wait, or whose node has too much in flight, is not read from for a while."),
    ]]),
    ("Nodes, as the proxies see them", [[
        panel("Latency, 99 of 100", "s", (quantile(0.99, "larder_proxy_node_seconds", "node", PX), "{{node}}"),
              help="From a request's sending to the node's reply."),
        panel("Requests a second", "reqps", (rate("larder_proxy_node_seconds_count", "node", PX), "{{node}}"), stack=True),
        panel("In flight", "short", (f"sum by (node) (larder_proxy_in_flight_requests{{{PX}}})", "{{node}}"), stack=True),
    ], [
        panel("Connections to nodes", "short", (f"sum by (node) (larder_proxy_node_connections{{{PX}}})", "{{node}}")),
        panel("Connections lost", "cps", (rate("larder_proxy_node_failures_total", "node", PX), "{{node}}")),
        panel("Requests a write", "short",
              (f'{rate("larder_proxy_requests_total", "", PX)} / ({rate("larder_proxy_writes_total", "", PX + ", to=" + chr(34) + "nodes" + chr(34))} > 0)', "to nodes"),
              help="How much is coalesced: the more, the less CPU a request costs on both sides."),
    ]]),
    ("Moving slots", [[
        panel("Redirects a second", "reqps", (rate("larder_proxy_redirects_total", "kind", PX), "{{kind}}"),
              help="Refusals of nodes that the proxy dealt with itself; no client sees them."),
        panel("Held requests", "reqps", (rate("larder_proxy_holds_total", "", PX), "held a second"),
              (f"sum(larder_proxy_gated_slots{{{PX}}})", "slots held back"),
              help="Requests that waited in the proxy until their slot was served again."),
        panel("Bytes of held requests", "bytes", (f"sum(larder_proxy_held_bytes{{{PX}}})", "held")),
    ], [
        panel("Map epoch", "none", (f"larder_proxy_map_epoch{{{PX}}}", "{{instance}}"), ("larder_topology_epoch", "topology")),
        panel("Topology reachable", "none", (f"larder_proxy_map_source_up{{{PX}}}", "{{instance}}")),
        panel("Network", "Bps", (rate("larder_proxy_received_bytes_total", "from", PX), "from {{from}}"),
              (rate("larder_proxy_sent_bytes_total", "to", PX), "to {{to}}")),
    ]]),
], variables=[("instance", "Process", "label_values(larder_proxy_map_epoch, instance)")])

SHARD = dashboard("larder-shard", "Larder / Shard", "What nodes do, and how full they are.", [
    ("Load", [[
        panel("Commands a second", "reqps", (rate("redis_commands_processed_total", "node", NODE), "{{node}}"), stack=True),
        panel("Busiest commands", "reqps", (f'topk(8, {rate("redis_commands_total", "cmd", NODE)})', "{{cmd}}")),
        panel("Mean time of a command", "s",
              (f'topk(8, {rate("redis_commands_duration_seconds_total", "cmd", NODE)} / ({rate("redis_commands_total", "cmd", NODE)} > 0))', "{{cmd}}")),
    ], [
        panel("CPU of each node's thread", "percentunit",
              (f'{rate("redis_cpu_user_seconds_total", "node", NODE)} + {rate("redis_cpu_sys_seconds_total", "node", NODE)}', "{{node}}"),
              help="1 is the whole core: a node has one thread."),
        panel("Hottest slots", "reqps", (f"topk(10, larder_node_hot_slots{{{NODE}}})", "slot {{slot}} of {{node}}"),
              help="Commands a second on the busiest slots, over the last ten seconds."),
        panel("Errors a second", "reqps", (rate("redis_error_replies_total", "node", NODE), "{{node}}"), stack=True),
    ]]),
    ("Memory and keys", [[
        panel("Memory of the data", "bytes", (f"redis_memory_used_bytes{{{NODE}}}", "{{node}}"),
              (f"redis_memory_used_peak_bytes{{{NODE}}}", "{{node}} at most")),
        panel("Share of the memory limit", "percentunit", (f"larder:node_memory_share{{{NODE}}}", "{{node}}"),
              help="Nodes without a limit are left out."),
        panel("Keys", "short", (f"sum by (node) (redis_db_keys{{{NODE}}})", "{{node}}"),
              (f"sum by (node) (redis_db_keys_expiring{{{NODE}}})", "{{node}} with an expiry")),
    ], [
        panel("Hit ratio", "percentunit", (f"larder:node_hit_ratio{{{NODE}}}", "{{node}}")),
        panel("Evicted keys a second", "short", (rate("redis_evicted_keys_total", "node", NODE), "{{node}}")),
        panel("Expired keys a second", "short", (rate("redis_expired_keys_total", "node", NODE), "{{node}}")),
    ]]),
    ("Connections and slots", [[
        panel("Connections", "short", (f"redis_connected_clients{{{NODE}}}", "{{node}}"), stack=True),
        panel("Network", "Bps", (rate("redis_net_input_bytes_total", "node", NODE), "{{node}} in"),
              (rate("redis_net_output_bytes_total", "node", NODE), "{{node}} out")),
        panel("Slots owned", "short", (f"larder_node_slots_owned{{{NODE}}}", "{{node}}"), stack=True),
    ]]),
], variables=[("node", "Node", "label_values(redis_connected_clients, node)")])

SCALING = dashboard("larder-scaling", "Larder / Resharding and scaling",
                    "What moves, how fast, and how many shards the load asks for.", [
    ("Scaling", [[
        panel("Shards", "none", ("larder_topology_shards", "are"), ("larder_topology_shards_wanted", "wanted"),
              ("max(larder_topology_recommended_shards)", "recommended")),
        panel("Why so many are recommended", "none", ("larder_topology_recommended_shards > 0", "{{reason}}")),
        panel("CPU of each shard", "percentunit", ("larder_topology_shard_cpu_ratio", "shard {{shard}}"), help="1 is one core."),
    ], [
        panel("Share of the memory limit", "percentunit", ("larder_topology_shard_memory_ratio", "shard {{shard}}")),
        panel("Commands a second", "reqps", ("larder_topology_shard_ops_per_second", "shard {{shard}}"), stack=True),
        panel("Keys", "short", ("larder_topology_shard_keys", "shard {{shard}}"), stack=True),
    ]]),
    ("Moves", [[
        panel("Slots of each shard", "short", ("larder_topology_shard_slots", "shard {{shard}}"), stack=True),
        panel("Slots left to move", "short", ("larder_topology_operation_slots_left", "left"),
              ("larder_topology_moves_in_progress", "attempts under way")),
        panel("Done", "percentunit", ("larder_topology_operation_progress_ratio", "of the operation under way"),
              ("larder_topology_operation_stalled", "stalled")),
    ], [
        panel("Moved a second", "short", (rate("larder_topology_slots_moved_total"), "slots"),
              (rate("larder_topology_keys_moved_total"), "keys")),
        panel("Bytes moved a second", "Bps", (rate("larder_topology_bytes_moved_total"), "bytes")),
        panel("Attempts a second", "cps", (rate("larder_topology_moves_finished_total"), "succeeded"),
              (rate("larder_topology_moves_failed_total"), "failed, tried again")),
    ], [
        panel("Time of a move", "s", (quantile(0.5, "larder_topology_move_duration_seconds"), "half"),
              (quantile(0.99, "larder_topology_move_duration_seconds"), "99 of 100")),
        panel("Handover", "s", (quantile(0.5, "larder_topology_move_handover_seconds"), "half"),
              (quantile(0.99, "larder_topology_move_handover_seconds"), "99 of 100"),
              help="Writes of the moving slots wait meanwhile."),
        panel("Requests that waited for a handover", "reqps", (rate("larder_node_held_requests_total", "node"), "{{node}}"),
              (rate("larder_proxy_holds_total"), "in the proxies")),
    ]]),
    ("Feeds", [[
        panel("Keys sent by sources", "short", ("larder_node_feed_keys_sent", "{{node}} sent"),
              ("larder_node_feed_keys", "{{node}} of")),
        panel("Keys taken by targets", "short", ("larder_node_import_keys", "{{node}}")),
        panel("Bytes of feeds under way", "bytes", ("larder_node_feed_bytes_sent", "{{node}} sent"),
              ("larder_node_import_bytes", "{{node}} taken")),
    ], [
        panel("Slots held", "short", ("larder_node_slots_held", "{{node}}")),
        panel("Moves of nodes", "cps", (rate("larder_node_moves_out_total", "node"), "{{node}} out"),
              (rate("larder_node_moves_in_total", "node"), "{{node}} in")),
        panel("Map epoch", "none", ("larder_node_map_epoch", "{{node}}"), ("larder_topology_epoch", "topology")),
    ]]),
])

DASHBOARDS = [OVERVIEW, PROXY, SHARD, SCALING]


def files():
    return {made["uid"].removeprefix("larder-") + ".json": json.dumps(made, indent=1, sort_keys=True) + "\n"
            for made in DASHBOARDS}


def main():
    stale = []
    for name, text in files().items():
        path = FOLDER / name
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if "--check" not in sys.argv:
            FOLDER.mkdir(exist_ok=True)
            path.write_text(text)
    if stale and "--check" in sys.argv:
        sys.exit(f"out of date: {', '.join(stale)} (mend it with: python3 grafana/build.py)")


main()
