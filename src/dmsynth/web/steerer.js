// Interactive steering: a picture, sliders, and pads over the map of the training frames: one for the head, and one for
// the eyes of a face that moves them.
// Used by the page without a server (static.js) and by the cockpit (cockpit.js), which differ in where the face is drawn.
"use strict";

const DEGREES_A_KEY = 1;
const FADE = 4; // frames of the cross-fade from one source to the next
const LIDS = ["eye_opening_left", "eye_opening_right"];
const LONGEST_CLOSED = 500; // milliseconds
const WIDEST = 1.2; // of rest: as far as both lids are opened here

const KINDS = {
  "°": { step: 0.1, words: "degrees", written: (value) => `${signed(value)}°` },
  px: { step: 0.1, words: "pixels", written: (value) => `${signed(value)} px` },
  "of rest": { step: 0.01, words: "parts of rest", written: (value) => value.toFixed(2) },
  "of wide open": { step: 0.01, words: "parts of wide open", written: (value) => value.toFixed(2) },
  "of raised": { step: 0.01, words: "parts of raised", written: (value) => signed(value, 2) },
};

function signed(value, digits = 1) {
  return `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(value).toFixed(digits)}`;
}

/** Whether a control is a share, not an angle or a place: its range is what it is. */
function isShare(unit) {
  return unit.startsWith("of ");
}

function kindOf(control) {
  return KINDS[control.unit] ?? KINDS.px;
}

function inWords(name) {
  return name.replaceAll("_", " ");
}

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
    this.shown = this.values; // in the last picture
    this.painted = []; // when pictures appeared
    this.latencies = []; // milliseconds from a change to its picture
    this.fade = 0;
    this.across = Math.max(0, this.number("yaw"));
    this.up = this.number("pitch");
    if (this.up < 0) {
      [this.across, this.up] = [0, 1];
    }
    this.ranges = face.controls.map((_, i) => this.rangeOf(i));
    this.rest = face.controls.map((_, i) => i).filter((i) => i !== this.across && i !== this.up);
    this.lids = LIDS.map((name) => this.number(name)).filter((i) => i >= 0);
    this.build();
    this.change(this.values, performance.now());
  }

  number(name) {
    return this.face.controls.findIndex((control) => control.name === name);
  }

  build() {
    this.root.classList.add("steerer");
    this.root.innerHTML = `
      <figure class="steerer-picture">
        <canvas class="steerer-canvas" role="img"></canvas>
        <figcaption class="steerer-status" role="status" aria-live="polite"></figcaption>
      </figure>
      <div class="steerer-controls">
        <div class="steerer-pads"></div>
        <p class="steerer-help"></p>
        <div class="steerer-sliders"></div>
        <div class="steerer-buttons"><button type="button" class="steerer-reset">Look straight ahead</button>
        <button type="button" class="steerer-reset steerer-blink">Blink</button>
        <span class="steerer-rate" aria-hidden="true"></span></div>
      </div>`;
    this.canvas = this.root.querySelector(".steerer-canvas");
    [this.canvas.width, this.canvas.height] = this.face.size;
    this.context = this.canvas.getContext("2d");
    this.status = this.root.querySelector(".steerer-status");
    this.rateText = this.root.querySelector(".steerer-rate");
    const third = this.rest[0];
    const gaze = [this.number("gaze_yaw"), this.number("gaze_pitch")];
    this.root.classList.toggle("steerer-eyes", this.lids.length > 0);
    this.pads = [new Pad(this, this.across, this.up, third)];
    if (gaze[0] >= 0 && gaze[1] >= 0) {
      this.pads.push(new Pad(this, ...gaze, undefined));
    }
    const [head, eyes] = this.pads.map((pad) => pad.help);
    this.root.querySelector(".steerer-help").textContent = `${head}${eyes ? ` The eyes' pad: ${eyes.slice(6)}` : ""} Arrow keys too.`;
    this.buildSliders();
    this.root.querySelector(".steerer-reset").addEventListener("click", () => this.reset());
    const blink = this.root.querySelector(".steerer-blink");
    blink.hidden = !this.face.blink;
    blink.addEventListener("click", () => this.blink());
    this.resized = new ResizeObserver(() => this.paintPads());
    this.pads.forEach((pad) => this.resized.observe(pad.canvas));
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.repaint = () => this.paintPads();
    this.scheme.addEventListener("change", this.repaint);
  }

  buildSliders() {
    this.sliders = this.face.controls.map((control, i) => {
      const { step, words } = kindOf(control);
      const change = (value, when) => this.set(i, value, when);
      return this.slider(inWords(control.name), words, this.range(i), step, change);
    });
    this.both = null;
    if (this.lids.length === LIDS.length) {
      const { step, words } = KINDS["of rest"];
      this.both = this.slider("eye opening", words, [0, WIDEST], step, (value, when) =>
        this.change(this.withLids(this.lids.map(() => value)), when),
      );
    }
    // both lids before each of them
    const rows = [...this.sliders, ...(this.both ? [this.both] : [])].map(([input]) => input.parentElement);
    if (this.both) {
      rows.splice(this.lids[0], 0, rows.pop());
    }
    this.root.querySelector(".steerer-sliders").append(...rows);
  }

  slider(name, words, [low, high], step, change) {
    const label = document.createElement("label");
    label.innerHTML = `<span class="steerer-name"></span><input type="range">
      <span class="steerer-value" aria-hidden="true"></span>`;
    label.querySelector(".steerer-name").textContent = name;
    const input = label.querySelector("input");
    [input.step, input.min, input.max] = [step, low, high];
    input.setAttribute("aria-label", `${name} in ${words}`);
    input.addEventListener("input", (event) => change(Number(input.value), event.timeStamp));
    return [input, label.querySelector(".steerer-value")];
  }

  // Slightly beyond what is covered, so that the border of the coverage is visible, but no more than can be commanded.
  range(i) {
    return this.ranges[i];
  }

  rangeOf(i) {
    const { low, high, least, most, unit } = this.face.controls[i];
    const { codes, alone = [], margin } = this.face.coverage;
    const joint = this.face.controls.length - alone.length;
    const ends = i < joint ? codes.reduce(([a, b], code) => [Math.min(a, code[i]), Math.max(b, code[i])], [0, 1]) : alone[i - joint];
    const [from, to] = ends.map((code) => low + code * (high - low));
    const more = isShare(unit) ? 0 : Math.max(0.15 * (to - from), i < joint ? 0 : 1.5 * margin * (high - low));
    const [first, last] = isShare(unit) ? [from, to] : [Math.floor(from - more), Math.ceil(to + more)];
    return [Math.max(first, least ?? first), Math.min(last, most ?? last)];
  }

  withLids(openings) {
    const values = this.values.slice();
    this.lids.forEach((i, k) => (values[i] = openings[k]));
    return values;
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

  // From the lids as they are and back, in the course and time that the description says. Where a picture takes longer
  // than the eyes are closed, they stay closed until that picture has been seen, or half a second.
  blink() {
    if (this.blinking || !this.face.blink) {
      return;
    }
    this.blinking = true;
    const { seconds, openings } = this.face.blink;
    const before = this.lids.map((i) => this.values[i]);
    const least = Math.min(...openings);
    const closed = openings.indexOf(least) / (openings.length - 1);
    let [begun, seen, closedAt] = [performance.now(), false, null];
    const step = () => {
      let phase = (performance.now() - begun) / 1000 / seconds;
      if (!seen && phase >= closed) {
        phase = closed;
        begun = performance.now() - 1000 * closed * seconds;
        closedAt ??= performance.now();
        seen = performance.now() - closedAt > LONGEST_CLOSED || this.lids.every((i, k) => Math.abs(this.shown[i] - least * before[k]) < 0.01);
      }
      this.blinking = phase < 1 && !this.closed;
      if (this.closed) {
        return;
      }
      const opening = this.blinking ? openings[Math.round(phase * (openings.length - 1))] : 1;
      this.change(this.withLids(before.map((value) => value * opening)), performance.now());
      if (this.blinking) {
        requestAnimationFrame(step);
      }
    };
    step();
  }

  change(values, when) {
    this.values = values.map((value, i) => {
      const [low, high] = this.range(i);
      const finer = Math.round(1 / kindOf(this.face.controls[i]).step);
      return Math.min(high, Math.max(low, Math.round(finer * value) / finer));
    });
    this.changed = when;
    this.values.forEach((value, i) => {
      const [input, output] = this.sliders[i];
      input.value = value;
      output.textContent = kindOf(this.face.controls[i]).written(value);
    });
    if (this.both) {
      const [one, other] = this.lids.map((i) => this.values[i]);
      const [input, output] = this.both;
      input.value = (one + other) / 2;
      output.textContent = one === other ? KINDS["of rest"].written(one) : "–";
    }
    this.say();
    this.paintPads();
    this.listeners.forEach((listener) => listener(this.values, this.confidence(), when));
    this.request();
  }

  say() {
    const outside = this.outside();
    const percent = Math.round(100 * this.confidence());
    const coverage = this.face.coverage.name ?? "the training coverage";
    const text = outside
      ? `Outside ${coverage}: confidence ${percent} %. Do not trust this picture.`
      : `Inside ${coverage}: confidence ${percent} %.`;
    this.root.classList.toggle("steerer-outside", outside);
    if (this.status.textContent !== text) {
      this.status.textContent = text;
    }
    const pose = this.face.controls.map((control, i) => `${inWords(control.name)} ${this.values[i]}`).join(", ");
    this.canvas.setAttribute("aria-label", `${this.face.name}, synthetic, at ${pose}`);
  }

  // As in dmsynth.controls.coverage.Coverage: distance of the code to the nearest training frame, or of a control that is
  // judged alone to its range, if that is larger; in tolerances.
  distance() {
    const code = this.values.map((value, i) => {
      const { low, high } = this.face.controls[i];
      return (value - low) / (high - low);
    });
    const { codes, alone = [], tolerance, margin } = this.face.coverage;
    const joint = code.length - alone.length;
    let least = Infinity;
    for (const other of codes) {
      let sum = 0;
      for (let i = 0; i < joint; i++) {
        sum += (code[i] - other[i]) ** 2;
      }
      least = Math.min(least, sum);
    }
    const beyond = alone.map(([low, high], k) => Math.max(low - code[joint + k], code[joint + k] - high, 0));
    return Math.max(Math.sqrt(least) / tolerance, ...beyond.map((by) => by / margin));
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
          this.paint(drawn, values);
          this.latencies.push(performance.now() - since);
          this.latencies.splice(0, this.latencies.length - 1000);
        }
      } catch (error) {
        this.status.textContent = String(error.message ?? error);
      }
    } while ((this.again || this.fade > 0) && !this.closed);
    this.busy = false;
  }

  paint({ image, source }, values = this.values) {
    if (this.source !== undefined && source !== this.source) {
      this.fade = FADE;
    }
    this.source = source;
    this.shown = values;
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
    this.root.dispatchEvent(new CustomEvent("painted", { detail: values }));
  }

  paintPads() {
    this.pads.forEach((pad) => pad.paint());
  }
}

// Two controls under one finger: left and right changes one, up and down the other, the wheel a third.
class Pad {
  constructor(steerer, across, up, third) {
    [this.steerer, this.across, this.up, this.third] = [steerer, across, up, third];
    this.canvas = document.createElement("canvas");
    this.canvas.className = "steerer-pad";
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    const [x, y] = [across, up].map((i) => inWords(this.controls[i].name));
    const wheel = third === undefined ? "" : ` Wheel, or Shift and arrow keys: ${inWords(this.controls[third].name)}.`;
    this.help = `Drag: ${x} and ${y}.${wheel}`;
    this.canvas.setAttribute("aria-label", `Pad for ${x} and ${y}. ${this.help} Arrow keys too. Home: at rest.`);
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      this.dragging = true;
      this.drag(event);
    });
    this.canvas.addEventListener("pointermove", (event) => this.dragging && this.drag(event));
    for (const end of ["pointerup", "pointercancel"]) {
      this.canvas.addEventListener(end, () => (this.dragging = false));
    }
    this.canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    steerer.root.querySelector(".steerer-pads").append(this.canvas);
  }

  get controls() {
    return this.steerer.face.controls;
  }

  place(i, value) {
    const [low, high] = this.steerer.range(i);
    return (value - low) / (high - low);
  }

  upwards() {
    return this.controls[this.up].unit === "°" ? 1 : 0; // pixels count downwards
  }

  x(value) {
    return this.place(this.across, value) * this.canvas.width;
  }

  y(value) {
    const share = this.place(this.up, value);
    return (this.upwards() ? 1 - share : share) * this.canvas.height;
  }

  paint() {
    const box = this.canvas.getBoundingClientRect();
    if (!box.width) {
      return;
    }
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(box.width * ratio), Math.round(box.height * ratio)];
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    const style = getComputedStyle(this.steerer.root);
    const colour = (name) => style.getPropertyValue(name);
    const context = this.canvas.getContext("2d");
    const [i, j, controls, values] = [this.across, this.up, this.controls, this.steerer.values];
    context.clearRect(0, 0, width, height);
    context.drawImage(this.map(colour("--steerer-trained"), ratio), 0, 0);
    context.strokeStyle = colour("--steerer-line");
    context.lineWidth = ratio;
    context.beginPath();
    context.moveTo(this.x(controls[i].rest), 0);
    context.lineTo(this.x(controls[i].rest), height);
    context.moveTo(0, this.y(controls[j].rest));
    context.lineTo(width, this.y(controls[j].rest));
    context.stroke();
    context.fillStyle = colour("--steerer-soft");
    context.font = `${11 * ratio}px system-ui, sans-serif`;
    context.textAlign = "right";
    context.fillText(`${inWords(controls[i].name)} →`, width - 6 * ratio, this.y(controls[j].rest) - 5 * ratio);
    context.textAlign = "left";
    const arrow = this.upwards() ? "↑" : "↓";
    context.fillText(`${inWords(controls[j].name)} ${arrow}`, this.x(controls[i].rest) + 5 * ratio, 14 * ratio);
    const [dotX, dotY] = [this.x(values[i]), this.y(values[j])];
    context.fillStyle = this.steerer.outside() ? colour("--steerer-bad") : colour("--steerer-good");
    context.strokeStyle = colour("--steerer-panel");
    context.lineWidth = 2.5 * ratio;
    context.beginPath();
    context.arc(dotX, dotY, 8 * ratio, 0, 7);
    context.fill();
    context.stroke();
    if (this.third !== undefined) {
      const turn = (values[this.third] * Math.PI) / 180; // roll, as a line through the dot
      const reach = 17 * ratio;
      context.strokeStyle = context.fillStyle;
      context.beginPath();
      context.moveTo(dotX - reach * Math.cos(turn), dotY - reach * Math.sin(turn));
      context.lineTo(dotX + reach * Math.cos(turn), dotY + reach * Math.sin(turn));
      context.stroke();
    }
  }

  // What is covered: a dot for each training frame, or the range of controls that are judged alone. Painted once for a
  // size and colour: there may be thousands of frames.
  map(colour, ratio) {
    const { width, height } = this.canvas;
    const key = `${width} ${height} ${colour}`;
    if (this.mapped?.key === key) {
      return this.mapped.layer;
    }
    const layer = document.createElement("canvas");
    [layer.width, layer.height] = [width, height];
    const context = layer.getContext("2d");
    context.fillStyle = colour;
    const value = (k, code) => this.controls[k].low + code * (this.controls[k].high - this.controls[k].low);
    const [i, j] = [this.across, this.up];
    const { codes, alone = [] } = this.steerer.face.coverage;
    const joint = this.controls.length - alone.length;
    if (i >= joint && j >= joint) {
      const { margin } = this.steerer.face.coverage;
      const ends = (k) => alone[k - joint].map((code, end) => value(k, code + (end ? margin : -margin)));
      const [[left, right], [low, high]] = [ends(i).map((end) => this.x(end)), ends(j).map((end) => this.y(end))];
      context.globalAlpha = 0.45;
      context.fillRect(left, Math.min(low, high), right - left, Math.abs(high - low));
    } else {
      const places = new Map();
      for (const code of codes) {
        const [x, y] = [this.x(value(i, code[i])), this.y(value(j, code[j]))];
        places.set(`${Math.round(x)} ${Math.round(y)}`, [x, y]);
      }
      for (const [x, y] of places.values()) {
        context.beginPath();
        context.arc(x, y, 2.2 * ratio, 0, 7);
        context.fill();
      }
    }
    this.mapped = { key, layer };
    return layer;
  }

  drag(event) {
    const box = this.canvas.getBoundingClientRect();
    const values = this.steerer.values.slice();
    const shares = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    if (this.upwards()) {
      shares[1] = 1 - shares[1];
    }
    [this.across, this.up].forEach((i, axis) => {
      const [low, high] = this.steerer.range(i);
      values[i] = low + shares[axis] * (high - low);
    });
    this.steerer.change(values, event.timeStamp);
  }

  wheel(event) {
    if (this.third !== undefined) {
      event.preventDefault();
      const value = this.steerer.values[this.third] - Math.sign(event.deltaY) * DEGREES_A_KEY;
      this.steerer.set(this.third, value, event.timeStamp);
    }
  }

  key(event) {
    const turns = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (event.key === "Home") {
      event.preventDefault();
      this.steerer.reset();
    }
    if (!turns) {
      return;
    }
    event.preventDefault();
    const values = this.steerer.values.slice();
    if (event.shiftKey && this.third !== undefined) {
      values[this.third] += (turns[0] + turns[1]) * DEGREES_A_KEY;
    } else {
      values[this.across] += turns[0] * DEGREES_A_KEY;
      values[this.up] += (this.upwards() ? turns[1] : -turns[1]) * DEGREES_A_KEY;
    }
    this.steerer.change(values, event.timeStamp);
  }
}

window.Steerer = Steerer;
