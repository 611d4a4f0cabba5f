// The page that records: it shows the camera as a mirror, sends its frames, and draws what the server says of them.
"use strict";

const EVERY = 66; // milliseconds from frame to frame, at least
const LARGEST = 640 * 480; // pixels of a frame, as datasets have
const QUALITY = 0.92; // of the JPEGs
const LOOK = 1000; // milliseconds between two looks at the job
const REFUSED = {
  NotAllowedError: "The camera was refused: allow it for this page in the browser, then press Start again.",
  NotFoundError: "There is no camera: connect one, then press Start again.",
  NotReadableError: "The camera does not start: close the program that uses it, then press Start again.",
};

const find = (id) => document.getElementById(id);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`);

// Whoever turns the head away does not see the screen, but hears it.
class Sounds {
  constructor() {
    this.context = new AudioContext(); // after a click, as browsers demand
  }

  tone(pitch, seconds, later = 0) {
    const [wave, volume] = [this.context.createOscillator(), this.context.createGain()];
    const from = this.context.currentTime + later;
    wave.frequency.value = pitch;
    volume.gain.setValueAtTime(0.25, from);
    volume.gain.exponentialRampToValueAtTime(0.001, from + seconds);
    wave.connect(volume).connect(this.context.destination);
    wave.start(from);
    wave.stop(from + seconds);
  }

  tick() {
    this.tone(660, 0.08);
  }

  beep() {
    this.tone(880, 0.25);
    this.tone(1175, 0.5, 0.3);
  }
}

// A map of cells, mirrored like the picture: what is on the left is to the person's left.
class CellMap {
  constructor(canvas, { columns, rows, wanted }) {
    [this.canvas, this.columns, this.rows, this.wanted] = [canvas, columns, rows, wanted];
    this.side = 44;
    canvas.width = this.side * columns.length * devicePixelRatio;
    canvas.height = this.side * rows.length * devicePixelRatio;
    this.pen = canvas.getContext("2d");
    this.pen.scale(devicePixelRatio, devicePixelRatio);
  }

  // The middle of a place in degrees, in pixels.
  at(across, up) {
    const place = (middles, value) =>
      middles.length < 2 ? 0.5 : Math.min(middles.length, Math.max(0, (value - middles[0]) / (middles[1] - middles[0]) + 0.5));
    return [
      (this.columns.length - place(this.columns, across)) * this.side,
      (this.rows.length - place(this.rows, up)) * this.side,
    ];
  }

  draw(counts, givenUp, most, here, target) {
    const { pen, side } = this;
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.wanted.forEach((row, r) =>
      row.forEach((wanted, c) => {
        if (!wanted) {
          return;
        }
        const [x, y] = this.at(this.columns[c], this.rows[r]);
        const box = [x - side / 2 + 2, y - side / 2 + 2, side - 4, side - 4];
        pen.beginPath();
        pen.roundRect(...box, 7);
        pen.fillStyle = colour("cell");
        pen.fill();
        pen.globalAlpha = Math.min(1, counts[r][c] / most);
        pen.fillStyle = colour("good");
        pen.fill();
        pen.globalAlpha = 1;
        if (givenUp[r][c]) {
          pen.setLineDash([4, 4]);
          pen.strokeStyle = colour("soft");
          pen.lineWidth = 1.5;
          pen.stroke();
          pen.setLineDash([]);
        }
        if (target && target[0] === r && target[1] === c) {
          pen.strokeStyle = colour("target");
          pen.lineWidth = 4;
          pen.stroke();
        }
      }),
    );
    if (here) {
      pen.beginPath();
      const [wide, high] = [side * this.columns.length, side * this.rows.length];
      const [x, y] = this.at(...here);
      pen.arc(Math.min(wide - 10, Math.max(10, x)), Math.min(high - 10, Math.max(10, y)), 8, 0, 2 * Math.PI);
      pen.fillStyle = colour("ink");
      pen.fill();
      pen.strokeStyle = colour("panel");
      pen.lineWidth = 3;
      pen.stroke();
    }
  }
}

// An arrow over the mirror picture, from its middle outwards; longer for a longer way. A tilt moves the top of the head.
function drawArrow(canvas, arrow, tilts) {
  canvas.width = canvas.clientWidth * devicePixelRatio;
  canvas.height = canvas.clientHeight * devicePixelRatio;
  const pen = canvas.getContext("2d");
  const way = arrow ? Math.hypot(...arrow) : 0;
  if (way < 3) {
    return;
  }
  const size = Math.min(canvas.width, canvas.height);
  const [begin, long, half] = [0.27 * size, (0.06 + 0.1 * Math.min(1, way / 30)) * size, 0.035 * size];
  pen.translate(canvas.width / 2, tilts ? 0.15 * canvas.height : canvas.height / 2);
  pen.rotate(Math.atan2(-arrow[1], -arrow[0])); // mirrored, and downwards as pictures are
  pen.beginPath();
  pen.moveTo(begin, -half / 2);
  pen.lineTo(begin + long, -half / 2);
  pen.lineTo(begin + long, -1.6 * half);
  pen.lineTo(begin + long + 2 * half, 0);
  pen.lineTo(begin + long, 1.6 * half);
  pen.lineTo(begin + long, half / 2);
  pen.lineTo(begin, half / 2);
  pen.closePath();
  pen.fillStyle = colour("target");
  pen.strokeStyle = "#fff";
  pen.lineWidth = 0.008 * size;
  pen.lineJoin = "round";
  pen.stroke();
  pen.fill();
}

// One recording: the camera, and the line to the server.
class Recording {
  constructor(name, consent) {
    [this.begin, this.video, this.sounds] = [{ name, consent }, find("video"), new Sounds()];
    this.answers = [];
    this.painted = 0; // answers shown, for tests
  }

  async open() {
    const wish = { width: { ideal: 640 }, height: { ideal: 480 }, facingMode: "user" };
    this.stream = await navigator.mediaDevices.getUserMedia({ video: wish, audio: false });
    const [track] = this.stream.getVideoTracks();
    track.onended = () => this.end("The camera was taken away; nothing was kept.");
    this.video.srcObject = this.stream;
    await this.video.play();
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(`${scheme}//${location.host}/camera`);
    this.socket.onopen = () => this.socket.send(JSON.stringify(this.begin));
    this.socket.onmessage = ({ data }) => this.told(JSON.parse(data));
    this.socket.onclose = () => this.end(this.said ?? "The cockpit has ended; nothing was kept. Start it again and reload this page.");
  }

  told(answer) {
    if (answer.maps) {
      this.maps = Object.fromEntries(Object.entries(answer.maps).map(([name, map]) => [name, new CellMap(find(name), map)]));
      this.frame = document.createElement("canvas");
      const [wide, high] = [this.video.videoWidth, this.video.videoHeight];
      const share = Math.min(1, Math.sqrt(LARGEST / (wide * high)));
      [this.frame.width, this.frame.height] = [Math.round((wide * share) / 2) * 2, Math.round((high * share) / 2) * 2];
      this.pen = this.frame.getContext("2d");
      this.pen.imageSmoothingQuality = "high";
      this.send();
      return;
    }
    if (answer.job) {
      this.job = answer.job;
      return this.end("");
    }
    this.said = answer.error;
    find("wrong").textContent = answer.error ?? "";
    if (!answer.error) {
      this.show(answer);
    }
    if (!answer.done) {
      this.send();
    }
  }

  show(guidance) {
    const bad = guidance.wrong !== "";
    find("say").textContent = bad ? guidance.wrong : guidance.say;
    find("say").classList.toggle("bad", bad);
    find("mirror").classList.toggle("bad", bad);
    drawArrow(find("arrow"), guidance.arrow, guidance.target?.[0] === "tilt" && guidance.angles.tilt);
    for (const [name, map] of Object.entries(this.maps)) {
      const target = guidance.target?.[0] === name ? guidance.target.slice(1) : null;
      map.draw(guidance.counts[name], guidance.given_up[name], guidance.most, guidance.angles[name], target);
    }
    if (this.target && String(guidance.target) !== this.target) {
      this.sounds.tick();
    }
    this.target = String(guidance.target ?? "");
    find("share").value = guidance.share;
    find("figures").textContent = `${Math.round(100 * guidance.share)} %, ${guidance.frames} frames`;
    find("finish").disabled = !guidance.enough;
    this.painted += 1;
  }

  // The next frame, once the camera has one. The server is never sent more than it keeps up with.
  async send() {
    const due = (this.sent ?? 0) + EVERY;
    while (performance.now() < due || this.video.currentTime === this.shown) {
      if (this.over) {
        return;
      }
      await new Promise((later) => setTimeout(later, 5));
    }
    if (this.finishing) {
      this.finishing = false;
      this.socket.send(JSON.stringify({ finish: true }));
      return;
    }
    [this.sent, this.shown] = [performance.now(), this.video.currentTime];
    this.pen.drawImage(this.video, 0, 0, this.frame.width, this.frame.height);
    const jpeg = await new Promise((made) => this.frame.toBlob(made, "image/jpeg", QUALITY));
    if (!this.over) {
      this.socket.send(jpeg);
    }
  }

  // It is over: with a job that makes the face, or because of what is said.
  end(said) {
    if (this.over) {
      return;
    }
    this.over = true;
    this.stream?.getTracks().forEach((track) => track.stop());
    this.socket?.close();
    find("stage").hidden = true;
    find("wrong").textContent = said;
    if (this.job) {
      this.sounds.beep();
      watch(this.job, this.begin.name, this.sounds);
    } else {
      find("begin").hidden = false;
    }
  }
}

// How the face is getting on, until it is there.
async function watch(job, name, sounds) {
  find("making").hidden = false;
  for (;;) {
    let made;
    try {
      const answer = await fetch(`/api/made?job=${encodeURIComponent(job)}`);
      made = await answer.json();
      if (!answer.ok) {
        throw new Error(made.error);
      }
      find("job").innerHTML = made.html; // escaped by the server
      find("wrong").textContent = "";
    } catch (error) {
      find("wrong").textContent = `The cockpit does not answer (${error.message}); the work goes on.`;
    }
    if (made?.face && find("ready").hidden) {
      find("title").textContent = "Your face is there";
      find("portrait").src = `/api/portrait?face=${encodeURIComponent(made.face)}`;
      find("steer").href = `/#face=${encodeURIComponent(made.face)}`;
      find("steer").textContent = `Steer ${name}`;
      find("ready").hidden = false;
      sounds.beep();
    }
    if (made && made.state !== "running") {
      return;
    }
    await new Promise((later) => setTimeout(later, LOOK));
  }
}

find("begin").addEventListener("submit", async (event) => {
  event.preventDefault();
  const recording = new Recording(find("name").value.trim(), find("consent").checked);
  window.dmsynthRecording = recording;
  find("wrong").textContent = "";
  find("say").textContent = "Opening the camera …";
  find("finish").disabled = true;
  [find("begin").hidden, find("stage").hidden] = [true, false];
  find("finish").onclick = () => (recording.finishing = true);
  find("cancel").onclick = () => recording.end("Cancelled; nothing was kept.");
  try {
    await recording.open();
  } catch (error) {
    recording.end(REFUSED[error.name] ?? `The camera does not start (${error.message}); try another browser.`);
  }
});
