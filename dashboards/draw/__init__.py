"""Draws the dashboards with Grafana's own components, and looks for faults: ``./dev dashboards --draw``.

``bundle`` installs the components and makes a page of ``page/`` with them; ``look`` opens the page in a
browser, for one dashboard, theme and width each. Why these components:
docs/decisions/0047-dashboards-drawn-without-a-grafana.md.
"""
