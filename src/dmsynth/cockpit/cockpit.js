// The cockpit's own parts of the page: steering live, recording the pad, playing a trajectory. Everything else is Gradio.
"use strict";

const SHOWN_SOURCES = 14;
const TRACK_AFTER = 180; // milliseconds of rest before the tracker looks
const SLOW_AFTER = 450; // and before a renderer draws that moves a picture

// One connection: asks for a picture, or what the tracker reads in the last one; one question at a time.
class Line {
  constructor() {
    this.waiting = Promise.resolve();
  }

  async open() {
    if (this.socket && this.socket.readyState === WebSocket.OPEN) {
      return;
    }
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(`${scheme}//${location.host}/live`);
    this.socket.binaryType = "arraybuffer";
    await new Promise((opened, failed) => {
      this.socket.onopen = opened;
      this.socket.onerror = () => failed(new Error("The cockpit does not answer; is it still running?"));
    });
  }

  ask(wish) {
    const answer = this.waiting.then(async () => {
      await this.open();
      return new Promise((answered, failed) => {
        this.socket.onmessage = (event) => answered(event.data);
        this.socket.onclose = () => failed(new Error("The cockpit has ended. Start it again and reload this page."));
        this.socket.send(JSON.stringify(wish));
      });
    });
    this.waiting = answer.catch(() => {});
    return answer;
  }

  async picture(wish) {
    const data = await this.ask(wish);
    if (typeof data === "string") {
      throw new Error(JSON.parse(data).error);
    }
    const source = new DataView(data).getInt32(0, true);
    const image = await createImageBitmap(new Blob([new Uint8Array(data, 4)], { type: "image/jpeg" }));
    return { image, source };
  }

  async track() {
    return JSON.parse(await this.ask({ track: true }));
  }

  close() {
    this.socket?.close();
  }
}

async function fetched(url, options) {
  const response = await fetch(url, options);
  const content = await response.json();
  if (!response.ok) {
    throw new Error(content.error ?? "The cockpit did not understand.");
  }
  return content;
}

function options(select, names, none) {
  const before = select.value;
  select.replaceChildren(
    ...[...(none ? [none] : []), ...names].map((name) => {
      const option = document.createElement("option");
      option.value = name === none ? "" : name;
      option.textContent = name;
      return option;
    }),
  );
  if ([...select.options].some((option) => option.value === before)) {
    select.value = before;
  }
}

// A table of what is commanded and what the tracker reads: a column for each control, or, upright, a row. Returns its cells.
function tabulated(table, controls, upright) {
  const [commanded, tracked] = ["commanded", "tracked"].map((kind) =>
    controls.map(() => {
      const cell = document.createElement("td");
      cell.className = `cockpit-${kind}-value`;
      return cell;
    }),
  );
  const head = (words, scope) => {
    const cell = document.createElement("th");
    cell.scope = scope;
    cell.textContent = words; // a face may come from anywhere
    return cell;
  };
  const row = (section, name, ...cells) => {
    const line = section.insertRow();
    line.className = name;
    line.append(...cells);
  };
  const names = controls.map((control) => inWords(control.name));
  table.className = `cockpit-table${upright ? " cockpit-upright" : ""}`;
  const [top, body] = [table.createTHead(), table.createTBody()];
  const across = (words) => words.map((each) => head(each, "col"));
  if (upright) {
    row(top, "", ...across(["", "commanded", "tracker reads"]));
    names.forEach((name, i) => row(body, "", head(name, "row"), commanded[i], tracked[i]));
  } else {
    row(top, "", ...across(["", ...names]));
    row(body, "cockpit-commanded", head("commanded", "row"), ...commanded);
    row(body, "cockpit-tracked", head("tracker reads", "row"), ...tracked);
  }
  return { commanded, tracked };
}

class SteerTab {
  constructor(root) {
    this.root = root;
    this.line = new Line();
    this.tracking = new Line();
    this.source = null;
    root.innerHTML = `
      <div class="cockpit-bar">
        <label>Face <select class="cockpit-face" aria-label="Face"></select></label>
        <label>Side by side with <select class="cockpit-other" aria-label="Side by side with"></select></label>
        <div class="cockpit-field"><span>Source of your own</span>
          <label for="cockpit-bring"><input type="file" accept="image/*,video/*" id="cockpit-bring"
            aria-label="Bring a portrait or a video"><span class="cockpit-button">Bring a portrait or a video …</span></label></div>
        <div class="cockpit-field"><span>A face without training</span>
          <label for="cockpit-photo"><input type="file" accept="image/*" id="cockpit-photo"
            aria-label="Steer a photo"><span class="cockpit-button">Steer a photo …</span></label></div>
        <div class="cockpit-field"><span>A face of yourself</span><a class="cockpit-button" href="/record">Record yourself …</a></div>
      </div>
      <div class="cockpit-drivers" role="group" aria-label="Driver"></div>
      <p class="cockpit-note cockpit-wait" role="status"></p>
      <div class="cockpit-message cockpit-error" role="alert"></div>
      <div class="cockpit-steerer"></div>`;
    this.message = root.querySelector(".cockpit-message");
    this.faces = root.querySelector(".cockpit-face");
    this.other = root.querySelector(".cockpit-other");
    this.drivers = root.querySelector(".cockpit-drivers");
    this.faces.addEventListener("change", () => this.guard(() => this.show(this.faces.value)));
    this.other.addEventListener("change", () => this.guard(() => this.beside()));
    for (const select of [this.faces, this.other]) {
      select.addEventListener("focus", () => this.guard(() => this.list()));
    }
    this.waiting = root.querySelector(".cockpit-wait");
    this.ownSource = root.querySelector("#cockpit-bring").closest(".cockpit-field");
    for (const [id, take] of [["#cockpit-bring", (file) => this.bring(file)], ["#cockpit-photo", (file) => this.photo(file)]]) {
      const input = root.querySelector(id);
      input.addEventListener("change", () => {
        const [file] = input.files;
        input.value = ""; // so that the same file can be chosen again
        file && this.guard(() => take(file));
      });
    }
    root.addEventListener("dragover", (event) => {
      event.preventDefault();
      root.classList.add("cockpit-drop");
    });
    root.addEventListener("dragleave", () => root.classList.remove("cockpit-drop"));
    root.addEventListener("drop", (event) => {
      event.preventDefault();
      root.classList.remove("cockpit-drop");
      event.dataTransfer.files[0] && this.guard(() => this.bring(event.dataTransfer.files[0]));
    });
    this.guard(async () => {
      await this.list();
      const wanted = new URLSearchParams(location.hash.slice(1)).get("face"); // from the page that records
      if ([...this.faces.options].some((option) => option.value === wanted)) {
        this.faces.value = wanted;
      }
      await this.show(this.faces.value);
    });
  }

  async guard(work) {
    this.message.textContent = "";
    try {
      await work();
    } catch (error) {
      this.message.textContent = error.message;
    }
  }

  async list() {
    const listed = await fetched("/api/faces");
    const faces = listed.filter((each) => typeof each === "string");
    this.renderers = listed.filter((each) => typeof each !== "string").map((each) => each.name); // move a brought picture
    options(this.faces, faces);
    options(this.other, [...faces, ...this.renderers], "nothing");
    this.portraits(faces);
  }

  // A row of portraits to choose the driver from, where there is a choice.
  portraits(names) {
    const there = [...this.drivers.children].map((button) => button.dataset.name);
    if (names.length < 2 || names.join("\n") === there.join("\n")) {
      return;
    }
    this.drivers.replaceChildren(
      ...names.map((name) => {
        const [button, image, words] = ["button", "img", "span"].map((tag) => document.createElement(tag));
        button.type = "button";
        button.dataset.name = name;
        image.alt = "";
        image.loading = "lazy";
        image.src = `/api/portrait?face=${encodeURIComponent(name)}`;
        words.textContent = name.replace(/^posed:|^.*#/, "");
        button.title = name;
        button.append(image, words);
        button.onclick = () => {
          this.faces.value = name;
          this.guard(() => this.show(name));
        };
        return button;
      }),
    );
    this.chosen(this.wanted);
  }

  chosen(name) {
    for (const button of this.drivers.children) {
      button.setAttribute("aria-pressed", String(button.dataset.name === name));
    }
  }

  async show(name) {
    this.wanted = name;
    this.chosen(name);
    this.waiting.textContent = name.startsWith("posed:") ? `Preparing ${name} …` : "";
    const about = await fetched(`/api/face?name=${encodeURIComponent(name)}`).finally(() => {
      this.waiting.textContent = this.wanted === name ? "" : this.waiting.textContent;
    });
    if (this.wanted !== name) {
      return; // another one was chosen meanwhile
    }
    this.about = about;
    this.posed = about.model === "posed"; // a photo is its own source
    this.ownSource.hidden = this.posed;
    this.source = null;
    this.steerer?.close();
    const root = this.root.querySelector(".cockpit-steerer");
    this.steerer = new Steerer(root, this.about, async (values) => {
      const drawn = await this.line.picture({ face: name, values, source: this.source });
      this.said(values);
      return drawn;
    });
    const [table, eyes] = [document.createElement("table"), this.steerer.lids.length > 0];
    this.cells = tabulated(table, this.about.controls, eyes);
    this.note = document.createElement("p");
    this.note.className = "cockpit-note";
    const sources = document.createElement("div");
    sources.className = "cockpit-sources";
    sources.setAttribute("role", "group");
    sources.setAttribute("aria-label", "Source frame");
    sources.hidden = this.posed && this.about.sources < 2;
    root.querySelector(".steerer-picture").append(sources);
    this.hint = document.createElement("p");
    this.hint.className = "cockpit-note";
    sources.after(this.hint);
    // Eight controls are too wide for the column of the sliders, and there is room below a photo.
    root.querySelector(eyes ? ".steerer-picture" : ".steerer-controls").append(table, this.note);
    this.gallery(sources, name);
    this.steerer.listeners.push((values) => this.changed(values));
    this.changed(this.steerer.values);
    await this.beside();
  }

  gallery(root, name) {
    const count = Math.min(SHOWN_SOURCES, this.about.sources);
    const auto = document.createElement("button");
    auto.type = "button";
    auto.className = "cockpit-auto";
    auto.textContent = "whichever suits";
    auto.onclick = () => this.choose(null, auto);
    root.append(auto);
    for (let i = 0; i < count; i++) {
      const number = Math.round((i * (this.about.sources - 1)) / Math.max(1, count - 1));
      const button = document.createElement("button");
      button.type = "button";
      const image = document.createElement("img");
      image.alt = `source frame ${number}`;
      image.src = `/api/source?face=${encodeURIComponent(name)}&number=${number}`;
      button.append(image);
      button.onclick = () => this.choose(number, button);
      root.append(button);
    }
    this.sources = root;
    this.choose(null, auto);
  }

  choose(source, button) {
    this.source = source;
    for (const other of this.sources.children) {
      other.setAttribute("aria-pressed", String(other === button));
    }
    this.steerer.change(this.steerer.values, performance.now());
  }

  // A picture as a face: posed, without training.
  async photo(file) {
    this.waiting.textContent = `Preparing ${file.name} …`;
    try {
      const name = encodeURIComponent(file.name.slice(0, 100));
      const { face, source } = await fetched(`/api/photo?name=${name}`, { method: "POST", body: file });
      this.brought = source;
      await this.list();
      this.faces.value = face;
      await this.show(face);
    } finally {
      this.waiting.textContent = "";
    }
  }

  async bring(file) {
    if (this.posed) {
      return this.photo(file);
    }
    const { source } = await fetched("/api/source", { method: "POST", body: file });
    const button = document.createElement("button");
    button.type = "button";
    const image = document.createElement("img");
    image.alt = `source of your own: ${file.name}`;
    if (file.type.startsWith("image/")) {
      image.src = URL.createObjectURL(file);
      button.append(image);
    } else {
      button.className = "cockpit-auto";
      button.textContent = file.name.slice(0, 18);
    }
    button.onclick = () => this.choose(source, button);
    this.sources.insertBefore(button, this.sources.children[1]);
    this.choose(source, button);
    this.brought = source;
    this.hint.textContent =
      "A face draws the person that it learned. To steer somebody else, make a face of them in the Faces tab.";
    await this.beside();
  }

  changed(values) {
    values.forEach((value, i) => (this.cells.commanded[i].textContent = this.written(i, value)));
    clearTimeout(this.resting);
    if (this.otherDraw) {
      clearTimeout(this.drawingOther);
      this.drawingOther = setTimeout(() => this.guard(this.otherDraw), this.renderers.includes(this.other.value) ? SLOW_AFTER : 0);
    }
  }

  written(i, value) {
    const digits = this.about.controls[i].unit.startsWith("of ") ? 2 : 1;
    return (Number(value.toFixed(digits)) + 0).toFixed(digits); // −0 is 0
  }

  // A picture has arrived: once the hand rests, the tracker looks at it.
  said(values) {
    clearTimeout(this.resting);
    this.resting = setTimeout(async () => {
      try {
        const found = await this.line.track();
        if (String(values) !== String(this.steerer.values)) {
          return;
        }
        this.about.controls.forEach((control, i) => {
          const value = found.tracked?.[control.name];
          this.cells.tracked[i].textContent = value === undefined ? "–" : this.written(i, value);
        });
        this.note.textContent = found.reason ? `The tracker: ${found.reason}.` : `Tracker: ${found.tracker}.`;
      } catch (error) {
        this.note.textContent = error.message;
      }
    }, TRACK_AFTER);
  }

  async beside() {
    this.root.querySelector(".cockpit-beside")?.remove();
    this.steerer.root.classList.remove("cockpit-three");
    this.otherLine?.close();
    this.otherDraw = null;
    const name = this.other.value;
    if (!name) {
      return;
    }
    const moves = this.renderers.includes(name);
    if (moves && !this.brought) {
      throw new Error(`${name} moves a picture: bring a portrait first.`);
    }
    const about = moves ? this.about : await fetched(`/api/face?name=${encodeURIComponent(name)}`);
    const names = this.about.controls.map((control) => control.name); // it may have others, or fewer
    const figure = document.createElement("figure");
    figure.className = "cockpit-beside";
    figure.innerHTML = '<canvas role="img"></canvas><figcaption></figcaption>';
    figure.querySelector("figcaption").textContent = `${name}, at the same pose`;
    const canvas = figure.querySelector("canvas");
    [canvas.width, canvas.height] = about.size;
    canvas.setAttribute("aria-label", `${name}, at the same pose`);
    this.root.querySelector(".steerer-picture").after(figure);
    this.steerer.root.classList.add("cockpit-three");
    this.otherLine = new Line();
    let [busy, again] = [false, false];
    this.otherDraw = async () => {
      if (busy) {
        again = true;
        return;
      }
      busy = true;
      try {
        do {
          again = false;
          const source = moves ? this.brought : null;
          const { image } = await this.otherLine.picture({ face: name, values: this.steerer.values, names, source });
          canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
          image.close();
        } while (again);
      } finally {
        busy = false;
      }
    };
    await this.otherDraw();
  }
}

// The Trajectory tab's picture: it plays what the table says, and its pad can be recorded.
class TrajectoryTab {
  constructor(root) {
    this.root = root;
    this.line = new Line();
    this.taken = null;
    this.show(root.dataset.face);
  }

  async show(name) {
    if (name === this.name) {
      return;
    }
    this.name = name;
    try {
      const about = await fetched(`/api/face?name=${encodeURIComponent(name)}`);
      if (name !== this.name) {
        return; // another one was chosen meanwhile
      }
      this.steerer?.close();
      this.steerer = new Steerer(this.root, about, (values) => this.line.picture({ face: name, values, source: null }));
      this.steerer.listeners.push((values) => this.taken?.push([performance.now() / 1000, ...values]));
    } catch (error) {
      this.root.textContent = error.message;
    }
  }

  record() {
    this.stop();
    this.taken = [[performance.now() / 1000, ...this.steerer.values]];
  }

  recorded() {
    const taken = this.taken ?? [];
    if (this.taken) {
      taken.push([performance.now() / 1000 + 0.01, ...this.steerer.values]);
    }
    this.taken = null;
    return JSON.stringify(taken);
  }

  stop() {
    cancelAnimationFrame(this.playing);
  }

  // rows: values a frame; the picture that is due is shown, none is waited for.
  play(rows, rate) {
    this.stop();
    const begun = performance.now();
    const step = () => {
      const frame = Math.floor(((performance.now() - begun) / 1000) * rate);
      const row = rows[Math.min(frame, rows.length - 1)];
      if (String(row) !== String(this.steerer.values)) {
        this.steerer.change(row, performance.now());
      }
      if (frame < rows.length) {
        this.playing = requestAnimationFrame(step);
      }
    };
    step();
  }
}

window.dmsynthCockpit = {
  record: () => window.dmsynthCockpit.trajectory?.record(),
  recorded: () => window.dmsynthCockpit.trajectory?.recorded() ?? "[]",
  show: (name) => window.dmsynthCockpit.trajectory?.show(name),
  play: (text) => {
    const { rows, rate } = JSON.parse(text || '{"rows": []}');
    if (rows.length) {
      window.dmsynthCockpit.trajectory?.play(rows, rate);
    }
  },
};

// Gradio makes its tabs when they are first opened.
const tabs = { "cockpit-steer": SteerTab, "cockpit-trajectory": TrajectoryTab };
setInterval(() => {
  for (const [id, Tab] of Object.entries(tabs)) {
    const root = document.getElementById(id);
    if (root && !root.dataset.begun) {
      root.dataset.begun = "yes";
      window.dmsynthCockpit[id.replace("cockpit-", "")] = new Tab(root);
    }
  }
}, 150);
