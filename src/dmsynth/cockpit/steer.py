"""The tab in which a face is turned by hand. The picture, the pad and the sliders are cockpit.js's."""

from __future__ import annotations

import gradio


def tab() -> None:
    """Lay out the tab; everything in it goes through ``/live`` and ``/api``."""
    gradio.HTML(apply_default_css=False, value='<div id="cockpit-steer" class="cockpit-panel"></div>')
