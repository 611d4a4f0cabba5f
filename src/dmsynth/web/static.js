// The static page: the face is drawn in the browser, by ONNX Runtime Web. window.dmsynthFace (face.js) holds the
// face's description, its two networks and its source frames; window.dmsynthRuntime (runtime.js) the runtime itself.
// All data is embedded in scripts, because a page opened from disk can load only scripts.
"use strict";

const CHANGE = 0.05; // as in dmsynth.steering: smallest gain for changing the source, in squared code distance
const KEPT = 24; // encoded source frames

function bytes(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

class Face {
  static async open(content) {
    const face = new Face();
    face.about = content.description;
    const runtime = window.dmsynthRuntime;
    ort.env.wasm.wasmBinary = bytes(runtime.wasm).buffer;
    const loader = new Blob([bytes(runtime.loader)], { type: "text/javascript" });
    ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(loader) };
    // Threads need shared memory, which browsers allow only for pages served with certain headers.
    ort.env.wasm.numThreads = window.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
    const options = { executionProviders: ["wasm"], graphOptimizationLevel: "all" };
    face.encoder = await ort.InferenceSession.create(bytes(content.encode), options);
    face.drawer = await ort.InferenceSession.create(bytes(content.steer), options);
    face.sources = await Face.unpack(content.sources, face.about);
    face.encoded = new Map();
    face.source = undefined;
    const [width, height] = face.about.size;
    face.picture = new ImageData(width, height);
    return face;
  }

  // The source frames are stacked vertically in one PNG.
  static async unpack(png, about) {
    const image = await createImageBitmap(new Blob([bytes(png)], { type: "image/png" }), { colorSpaceConversion: "none" });
    const [width, height] = about.size;
    const canvas = new OffscreenCanvas(image.width, image.height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    return about.source_codes.map((_, number) => {
      const { data } = context.getImageData(0, number * height, width, height);
      const pixels = new Float32Array(about.channels * width * height);
      for (let i = 0; i < width * height; i++) {
        for (let channel = 0; channel < about.channels; channel++) {
          pixels[channel * width * height + i] = data[4 * i + channel] / 255;
        }
      }
      return pixels;
    });
  }

  // The command that makes a tracker read these values, as in dmsynth.controls.response.
  commanded(values) {
    const { controls, response } = this.about;
    if (!response) {
      return values;
    }
    const { low, high, weights, terms, unit, rounds, step, most } = response;
    const head = values.slice(0, low.length);
    let wanted = head;
    for (let round = 0; round < rounds; round++) {
      const factors = [1, ...wanted.map((value, i) => Math.min(Math.max(value, low[i]), high[i]) / unit)];
      const products = terms.map((term) => term.reduce((product, i) => product * factors[i], 1));
      const errors = head.map((_, axis) => products.reduce((sum, each, i) => sum + each * weights[i][axis], 0));
      wanted = wanted.map((value, i) => value + step * (head[i] - value - Math.min(Math.max(errors[i], -most), most)));
    }
    const inRange = wanted.map((value, i) => {
      const { low, high } = controls[i];
      return Math.min(Math.max(value, Math.min(low, values[i])), Math.max(high, values[i]));
    });
    return [...inRange, ...values.slice(head.length)];
  }

  code(read) {
    const { controls, carried } = this.about;
    const values = this.commanded(read);
    return [...controls.map(({ low, high }, i) => (values[i] - low) / (high - low)), ...carried];
  }

  // The best source frame for a pose; changed only if another one is clearly better. Eyes can be moved in the first.
  choose(code, values) {
    const { scale, source_codes, controls, blink } = this.about;
    if (blink && controls.some(({ name, rest }, i) => /^(gaze|eye)_/.test(name) && values[i] !== rest)) {
      this.source = 0;
      return 0;
    }
    const distances = source_codes.map((other) =>
      other.reduce((sum, value, i) => sum + (scale[i] * (value - code[i])) ** 2, 0),
    );
    const best = distances.indexOf(Math.min(...distances));
    const stays = this.source !== undefined && distances[this.source] <= distances[best] + CHANGE;
    this.source = stays ? this.source : best;
    return this.source;
  }

  async appearance(source) {
    if (!this.encoded.has(source)) {
      const { size, channels, source_codes } = this.about;
      const feeds = { images: new ort.Tensor("float32", this.sources[source], [1, channels, size[1], size[0]]) };
      if (this.encoder.inputNames.includes("code")) {
        feeds.code = new ort.Tensor("float32", Float32Array.from(source_codes[source]), [1, source_codes[source].length]);
      }
      this.encoded.set(source, await this.encoder.run(feeds));
      if (this.encoded.size > KEPT) {
        this.encoded.delete(this.encoded.keys().next().value);
      }
    }
    return this.encoded.get(source);
  }

  async pixels(values) {
    const code = this.code(values);
    const source = this.choose(code, values);
    const feeds = { ...(await this.appearance(source)), code: new ort.Tensor("float32", Float32Array.from(code), [1, code.length]) };
    const names = this.drawer.inputNames;
    const { image } = await this.drawer.run(Object.fromEntries(names.map((name) => [name, feeds[name]])));
    return { pixels: image.data, source };
  }

  async draw(values) {
    const { pixels, source } = await this.pixels(values);
    const { size, channels } = this.about;
    const [count, data] = [size[0] * size[1], this.picture.data];
    for (let i = 0; i < count; i++) {
      for (let colour = 0; colour < 3; colour++) {
        data[4 * i + colour] = 255 * pixels[(channels === 1 ? 0 : colour * count) + i] + 0.5;
      }
      data[4 * i + 3] = 255;
    }
    return { image: await createImageBitmap(this.picture), source };
  }
}

async function begin() {
  const root = document.getElementById("face");
  try {
    const face = await Face.open(window.dmsynthFace);
    window.face = face;
    window.steerer = new Steerer(root, face.about, (values) => face.draw(values));
    document.getElementById("loading").remove();
  } catch (error) {
    document.getElementById("loading").textContent =
      `This browser cannot draw the face (${error.message ?? error}). A current Chrome, Edge, Firefox or Safari can.`;
    throw error;
  }
}

// Benchmark for the console or a test: frames a second and milliseconds a frame while the face turns.
window.bench = async (count = 100) => {
  const { face, steerer } = window;
  const begun = performance.now();
  for (let i = 0; i < count; i++) {
    const values = steerer.values.slice();
    values[steerer.across] = 15 * Math.sin((2 * Math.PI * i) / 50);
    steerer.paint(await face.draw(values));
  }
  const seconds = (performance.now() - begun) / 1000;
  return { pictures: count, seconds, rate: count / seconds, threads: ort.env.wasm.numThreads, size: face.about.size };
};

window.addEventListener("DOMContentLoaded", begin);
