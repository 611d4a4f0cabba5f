// Interactive steering: a picture, sliders, and a pad over the map of the training frames.
// Used by the page without a server (static.js) and by the cockpit (cockpit.js), which differ in where the face is drawn.
"use strict";

const DEGREES_A_KEY = 1;
const FADE = 4; // frames of the cross-fade from one source to the next

const UNITS = { "°": "°", px: " px" }; // shares have none

class Steerer {
  // root: an element to fill. face: from dmsynth.web.description.
  // draw(values) → a promise of {image: anything a canvas can draw, source: which source frame it came from}
  constructor(root, face, draw) {
    this.root = root;
    this.face = face;
    this.draw = draw;
    this.values = face.controls.map((control) => control.rest);
    this.listeners = [];
    this.busy = false;
    this.again = false;
    this.closed = false;
    this.painted = []; // when pictures appeared
    this.latencies = []; // milliseconds from a change to its picture
    this.fade = 0;
    this.across = Math.max(0, face.controls.findIndex((control) => control.name === "yaw"));
    this.up = face.controls.findIndex((control) => control.name === "pitch");
    if (this.up < 0) {
      [this.across, this.up] = [0, 1];
    }
    this.rest = face.controls.map((_, i) => i).filter((i) => i !== this.across && i !== this.up);
    this.build();
    this.change(this.values, performance.now());
  }

  build() {
    this.root.classList.add("steerer");
    this.root.innerHTML = `
      <figure class="steerer-picture">
        <canvas class="steerer-canvas" role="img"></canvas>
        <figcaption class="steerer-status" role="status" aria-live="polite"></figcaption>
      </figure>
      <div class="steerer-controls">
        <canvas class="steerer-pad" tabindex="0" role="application"></canvas>
        <p class="steerer-help"></p>
        <div class="steerer-sliders"></div>
        <div class="steerer-buttons"><button type="button" class="steerer-reset">Look straight ahead</button>
        <span class="steerer-rate" aria-hidden="true"></span></div>
      </div>`;
    this.canvas = this.root.querySelector(".steerer-canvas");
    [this.canvas.width, this.canvas.height] = this.face.size;
    this.context = this.canvas.getContext("2d");
    this.pad = this.root.querySelector(".steerer-pad");
    this.status = this.root.querySelector(".steerer-status");
    this.rateText = this.root.querySelector(".steerer-rate");
    const sliders = this.root.querySelector(".steerer-sliders");
    this.sliders = this.face.controls.map((control, i) => {
      const [low, high] = this.range(i);
      const label = document.createElement("label");
      label.innerHTML = `<span class="steerer-name"></span><input type="range" step="0.1">
        <span class="steerer-value" aria-hidden="true"></span>`;
      label.querySelector(".steerer-name").textContent = control.name;
      const input = label.querySelector("input");
      [input.min, input.max] = [low, high];
      input.setAttribute("aria-label", `${control.name}${{ "°": " in degrees", px: " in pixels" }[control.unit] ?? ""}`);
      input.addEventListener("input", (event) => this.set(i, Number(input.value), event.timeStamp));
      sliders.append(label);
      return [input, label.querySelector(".steerer-value")];
    });
    const [x, y] = [this.face.controls[this.across].name, this.face.controls[this.up].name];
    const third = this.rest.map((i) => this.face.controls[i].name).join(", ");
    const help = `Drag: ${x} and ${y}.` + (third ? ` Wheel, or Shift and arrow keys: ${third}.` : "") + " Arrow keys too.";
    this.root.querySelector(".steerer-help").textContent = help;
    this.pad.setAttribute("aria-label", `Pad for ${x} and ${y}. ${help} Home: at rest.`);
    this.root.querySelector(".steerer-reset").addEventListener("click", () => this.reset());
    this.pad.addEventListener("pointerdown", (event) => {
      this.pad.setPointerCapture(event.pointerId);
      this.dragging = true;
      this.drag(event);
    });
    this.pad.addEventListener("pointermove", (event) => this.dragging && this.drag(event));
    for (const end of ["pointerup", "pointercancel"]) {
      this.pad.addEventListener(end, () => (this.dragging = false));
    }
    this.pad.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.pad.addEventListener("keydown", (event) => this.key(event));
    this.resized = new ResizeObserver(() => this.paintPad());
    this.resized.observe(this.pad);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.repaint = () => this.paintPad();
    this.scheme.addEventListener("change", this.repaint);
  }

  // Slightly beyond the training range, so that the border of the coverage is visible.
  range(i) {
    const { low, high } = this.face.controls[i];
    const more = 0.15 * (high - low);
    return [Math.floor(low - more), Math.ceil(high + more)];
  }

  close() {
    this.closed = true;
    this.resized.disconnect();
    this.scheme.removeEventListener("change", this.repaint);
    this.root.replaceChildren();
  }

  reset() {
    this.change(this.face.controls.map((control) => control.rest), performance.now());
  }

  set(i, value, when) {
    const values = this.values.slice();
    values[i] = value;
    this.change(values, when ?? performance.now());
  }

  change(values, when) {
    this.values = values.map((value, i) => {
      const [low, high] = this.range(i);
      return Math.min(high, Math.max(low, Math.round(10 * value) / 10));
    });
    this.changed = when;
    this.values.forEach((value, i) => {
      const [input, output] = this.sliders[i];
      const unit = UNITS[this.face.controls[i].unit] ?? "";
      input.value = value;
      output.textContent = `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(value).toFixed(1)}${unit}`;
    });
    this.say();
    this.paintPad();
    this.listeners.forEach((listener) => listener(this.values, this.confidence(), when));
    this.request();
  }

  say() {
    const outside = this.outside();
    const percent = Math.round(100 * this.confidence());
    const text = outside
      ? `Outside the training coverage: confidence ${percent} %. Do not trust this picture.`
      : `Inside the training coverage: confidence ${percent} %.`;
    this.root.classList.toggle("steerer-outside", outside);
    if (this.status.textContent !== text) {
      this.status.textContent = text;
    }
    const pose = this.face.controls.map((control, i) => `${control.name} ${this.values[i]}`).join(", ");
    this.canvas.setAttribute("aria-label", `${this.face.name}, synthetic, at ${pose}`);
  }

  // As in dmsynth.controls.coverage.Coverage: distance of the code to the nearest training frame, in tolerances; a
  // control that is judged by its own range alone, to that.
  distance() {
    const code = this.values.map((value, i) => {
      const { low, high } = this.face.controls[i];
      return (value - low) / (high - low);
    });
    const { codes, joint, ranges, tolerance } = this.face.coverage;
    let least = Infinity;
    for (const other of codes) {
      let sum = 0;
      for (let i = 0; i < joint; i++) {
        sum += (code[i] - other[i]) ** 2;
      }
      least = Math.min(least, sum);
    }
    const beyond = ranges.map(([low, high], i) => Math.max(low - code[joint + i], code[joint + i] - high, 0));
    return Math.max(Math.sqrt(least), ...beyond) / tolerance;
  }

  outside() {
    return this.distance() > 1 + 1e-6;
  }

  confidence() {
    return 0.5 ** this.distance() ** 2;
  }

  // One picture at a time; of all requests meanwhile, only the last is drawn.
  async request() {
    if (this.busy) {
      this.again = true;
      return;
    }
    this.busy = true;
    do {
      this.again = false;
      const [values, since] = [this.values.slice(), this.changed];
      try {
        const drawn = await this.draw(values);
        if (this.closed) {
          return;
        }
        if (drawn) {
          this.paint(drawn);
          this.latencies.push(performance.now() - since);
          this.latencies.splice(0, this.latencies.length - 1000);
        }
      } catch (error) {
        this.status.textContent = String(error.message ?? error);
      }
    } while ((this.again || this.fade > 0) && !this.closed);
    this.busy = false;
  }

  paint({ image, source }) {
    if (this.source !== undefined && source !== this.source) {
      this.fade = FADE;
    }
    this.source = source;
    this.context.globalAlpha = this.fade > 0 ? 1 / this.fade : 1;
    this.context.drawImage(image, 0, 0, this.canvas.width, this.canvas.height);
    this.fade = Math.max(0, this.fade - 1);
    image.close?.();
    const now = performance.now();
    this.painted = this.painted.filter((time) => now - time < 1000);
    this.painted.push(now);
    this.rateText.textContent = this.painted.length > 3 ? `${this.painted.length} pictures a second` : "";
    clearTimeout(this.resting);
    this.resting = setTimeout(() => (this.rateText.textContent = ""), 1500);
    this.root.dispatchEvent(new CustomEvent("painted", { detail: this.values }));
  }

  // ------------------------------------------------------------------ the pad

  place(i, value) {
    const [low, high] = this.range(i);
    return (value - low) / (high - low);
  }

  upwards() {
    return this.face.controls[this.up].unit === "°" ? 1 : 0; // pixels count downwards
  }

  paintPad() {
    const box = this.pad.getBoundingClientRect();
    if (!box.width) {
      return;
    }
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(box.width * ratio), Math.round(box.height * ratio)];
    if (this.pad.width !== width || this.pad.height !== height) {
      this.pad.width = width;
      this.pad.height = height;
    }
    const style = getComputedStyle(this.root);
    const colour = (name) => style.getPropertyValue(name);
    const context = this.pad.getContext("2d");
    const x = (value) => this.place(this.across, value) * width;
    const y = (value) => {
      const share = this.place(this.up, value);
      return (this.upwards() ? 1 - share : share) * height;
    };
    context.clearRect(0, 0, width, height);
    context.fillStyle = colour("--steerer-trained");
    const [i, j] = [this.across, this.up];
    const controls = this.face.controls;
    const value = (k, code) => controls[k].low + code * (controls[k].high - controls[k].low);
    for (const code of this.face.coverage.codes) {
      context.beginPath();
      context.arc(x(value(i, code[i])), y(value(j, code[j])), 2.2 * ratio, 0, 7);
      context.fill();
    }
    context.strokeStyle = colour("--steerer-line");
    context.lineWidth = ratio;
    context.beginPath();
    context.moveTo(x(controls[i].rest), 0);
    context.lineTo(x(controls[i].rest), height);
    context.moveTo(0, y(controls[j].rest));
    context.lineTo(width, y(controls[j].rest));
    context.stroke();
    context.fillStyle = colour("--steerer-soft");
    context.font = `${11 * ratio}px system-ui, sans-serif`;
    context.textAlign = "right";
    context.fillText(`${controls[i].name} →`, width - 6 * ratio, y(controls[j].rest) - 5 * ratio);
    context.textAlign = "left";
    context.fillText(`${controls[j].name} ${this.upwards() ? "↑" : "↓"}`, x(controls[i].rest) + 5 * ratio, 14 * ratio);
    const [dotX, dotY] = [x(this.values[i]), y(this.values[j])];
    context.fillStyle = this.outside() ? colour("--steerer-bad") : colour("--steerer-good");
    context.strokeStyle = colour("--steerer-panel");
    context.lineWidth = 2.5 * ratio;
    context.beginPath();
    context.arc(dotX, dotY, 8 * ratio, 0, 7);
    context.fill();
    context.stroke();
    if (this.rest.length) {
      const turn = (this.values[this.rest[0]] * Math.PI) / 180; // roll, as a line through the dot
      const reach = 17 * ratio;
      context.strokeStyle = context.fillStyle;
      context.beginPath();
      context.moveTo(dotX - reach * Math.cos(turn), dotY - reach * Math.sin(turn));
      context.lineTo(dotX + reach * Math.cos(turn), dotY + reach * Math.sin(turn));
      context.stroke();
    }
  }

  drag(event) {
    const box = this.pad.getBoundingClientRect();
    const values = this.values.slice();
    const shares = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    if (this.upwards()) {
      shares[1] = 1 - shares[1];
    }
    [this.across, this.up].forEach((i, axis) => {
      const [low, high] = this.range(i);
      values[i] = low + shares[axis] * (high - low);
    });
    this.change(values, event.timeStamp);
  }

  wheel(event) {
    if (this.rest.length) {
      event.preventDefault();
      this.set(this.rest[0], this.values[this.rest[0]] - Math.sign(event.deltaY) * DEGREES_A_KEY, event.timeStamp);
    }
  }

  key(event) {
    const turns = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (event.key === "Home") {
      event.preventDefault();
      this.reset();
    }
    if (!turns) {
      return;
    }
    event.preventDefault();
    const values = this.values.slice();
    if (event.shiftKey && this.rest.length) {
      values[this.rest[0]] += (turns[0] + turns[1]) * DEGREES_A_KEY;
    } else {
      values[this.across] += turns[0] * DEGREES_A_KEY;
      values[this.up] += (this.upwards() ? turns[1] : -turns[1]) * DEGREES_A_KEY;
    }
    this.change(values, event.timeStamp);
  }
}

window.Steerer = Steerer;
