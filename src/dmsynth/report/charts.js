// Interaction of the charts of charts.py. All data is read from the SVG; text is set as plain text (no HTML).
"use strict";
for (const chart of document.querySelectorAll("svg.chart")) {
  const make = (name, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    return element;
  };
  const panels = [...chart.querySelectorAll("svg.panel")].map((panel) => {
    const [x0, x1, y0, y1] = panel.dataset.scale.split(" ").map(Number);
    const [left, top, width, height] = panel.dataset.box.split(" ").map(Number);
    const curves = [...panel.querySelectorAll("[data-series]")].map((path) => ({
      path, name: path.dataset.series, kind: path.dataset.kind,
      points: [...path.getAttribute("d").matchAll(/([ML])(-?[\d.e+]+) (-?[\d.e+]+)/g)].map((m) => [+m[2], +m[3], m[1] === "L"]),
      spans: [...path.getAttribute("d").matchAll(/M(-?[\d.e+]+) [\d.]+H(-?[\d.e+]+)/g)].map((m) => [+m[1], +m[2]]),
    }));
    return {left, top, width, height, curves, title: panel.dataset.title,
            x: (px) => x0 + (px - left) / width * (x1 - x0), px: (x) => left + (x - x0) / (x1 - x0) * width,
            y: (py) => y0 + (1 - (py - top) / height) * (y1 - y0)};
  });
  const scattered = chart.dataset.near === "point";
  const cursor = make("path", {stroke: "#1b2733", "stroke-width": 0.8, fill: "none", "pointer-events": "none"});
  const box = make("rect", {fill: "white", stroke: "#c5ced6", rx: 4, "pointer-events": "none"});
  const text = make("text", {"pointer-events": "none", fill: "#1b2733"});
  chart.append(cursor, box, text);
  const shown = (curve) => curve.path.style.display !== "none";

  const tell = (lines, px, py) => {
    text.replaceChildren(...lines.map((line, i) => {
      const part = make("tspan", {x: 0, dy: i ? 15 : 12});
      part.textContent = line;
      return part;
    }));
    for (const element of [box, text]) element.style.display = lines.length ? "" : "none";
    if (!lines.length) return;
    const size = text.getBBox(), whole = chart.viewBox.baseVal;
    const x = px + size.width + 24 < whole.width ? px + 12 : px - size.width - 20;
    const y = Math.max(2, Math.min(py, whole.height - size.height - 12));
    text.setAttribute("transform", `translate(${x + 6} ${y + 4})`);
    for (const [key, value] of [["x", x], ["y", y], ["width", size.width + 12], ["height", size.height + 10]])
      box.setAttribute(key, value);
  };
  const nearest = (points, px, py) => {
    let best = null, least = Infinity;
    for (const point of points) {
      const far = Math.hypot(point[0] - px, point[1] - py);
      if (far < least) [best, least] = [point, far];
    }
    return [best, least];
  };
  const height = ({kind, points}, px) => {  // of a curve over px; undefined in a gap
    if (kind === "dots") return points.find((point) => Math.abs(point[0] - px) < 3)?.[1];
    const i = points.findIndex((point, i) => i && point[2] && points[i - 1][0] <= px && px <= point[0]);
    if (i < 0) return undefined;
    const [[x0, y0], [x1, y1]] = [points[i - 1], points[i]];
    return x1 > x0 ? y0 + (px - x0) / (x1 - x0) * (y1 - y0) : y1;
  };
  const line = (px) => cursor.setAttribute("d", panels.map((p) => `M${px} ${p.top}V${p.top + p.height}`).join(""));
  const place = (event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(chart.getScreenCTM().inverse());

  const look = (event) => {
    const {x: px, y: py} = place(event);
    const over = panels.find((p) => px >= p.left && px <= p.left + p.width && (!scattered || py >= p.top && py <= p.top + p.height));
    if (!over) { tell([], 0, 0); if (!chart.dataset.video) cursor.setAttribute("d", ""); return; }
    if (scattered) {
      const near = over.curves.filter(shown).filter((c) => c.points.length).map((c) => [c, ...nearest(c.points, px, py)])
        .sort((a, b) => a[2] - b[2])[0];
      if (!near || near[2] > 14) return tell([], 0, 0);
      const [curve, point] = near;
      return tell([curve.name, `${over.x(point[0]).toFixed(1)}, ${over.y(point[1]).toFixed(1)}`], point[0], point[1]);
    }
    line(px);
    const lines = [over.x(px).toFixed(2)];
    for (const panel of panels) for (const curve of panel.curves.filter(shown)) {
      if (curve.kind === "on") {
        lines.push(`${curve.name}: ${curve.spans.some(([a, b]) => px >= a && px <= b) ? "yes" : "no"}`);
      } else if (curve.points.length) {
        const py = height(curve, px);
        lines.push(`${panel.title} ${curve.name}: ${py === undefined ? "–" : panel.y(py).toFixed(1)}`);
      }
    }
    tell(lines, px, py);
  };
  chart.addEventListener("pointermove", look);
  chart.addEventListener("pointerleave", () => { tell([], 0, 0); if (!chart.dataset.video) cursor.setAttribute("d", ""); });
  tell([], 0, 0);

  for (const name of chart.querySelectorAll("g.name")) {
    name.style.cursor = "pointer";
    name.addEventListener("click", () => {
      const hidden = name.style.opacity !== "0.35";
      name.style.opacity = hidden ? "0.35" : "";
      for (const panel of panels) for (const curve of panel.curves)
        if (curve.name === name.dataset.names) curve.path.style.display = hidden ? "none" : "";
    });
  }
  const video = chart.dataset.video && document.getElementById(chart.dataset.video);
  if (video) {
    const first = panels[0];
    const follow = () => { line(first.px(video.currentTime)); if (!video.paused) requestAnimationFrame(follow); };
    video.addEventListener("play", follow);
    video.addEventListener("seeked", follow);
    chart.addEventListener("click", (event) => {
      const {x, y} = place(event);
      if (y >= first.top && x >= first.left) video.currentTime = Math.max(0, first.x(x));
    });
  }
}
