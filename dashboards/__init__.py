"""Makes the Grafana dashboards of ``config/grafana/dashboards``: ``./dev dashboards``.

``model`` knows the JSON of Grafana, ``grid`` where a panel stands, ``promql`` the queries that several
dashboards share; each dashboard has a module of its own. The names and colours of states come from
:mod:`threadwatch.model.states`. Why plain dictionaries:
docs/decisions/0013-dashboards-from-plain-dictionaries.md.
"""
