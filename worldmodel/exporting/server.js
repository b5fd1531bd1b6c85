// The server of the page to drive the dream (play/serving.py), within the page: the same messages, of a true world and
// of dreams that are programs. It stands still while nobody looks at the page.

const LATEST = 0.25;  // seconds that a moment can be late and still be made up for by quicker ones
const FARTHEST = 100;  // in place of what is no number, which JSON has not

const joined = (arrays) => Float32Array.from(arrays.flatMap((array) => [...array]));
const nextState = (found) => Object.fromEntries(Object.entries(found).map(([name, values]) => [name.replace("next_", ""), values]));
const digits = (values, places) => Array.from(values, (value) => Number((Number.isFinite(value) ? value : FARTHEST).toFixed(places)));

// What a model sees, dreams and shows, one step at a time (exporting/models.py).
class Dreamer {
  constructor({ programs, view, context }, stored) {
    for (const [name, program] of Object.entries(programs)) this[name] = new Program(program, stored);
    [this.view, this.context] = [view, context];
  }

  // The state after the last of some frames, with the actions between them.
  filter(frames, actions) {
    const first = { frames: joined(frames.slice(0, this.context)), actions: joined(actions.slice(0, this.context - 1)) };
    let state = nextState(this.begin.run(first));
    for (let t = this.context; t < frames.length; t++) state = this.filterStep(state, actions[t - 1], frames[t]);
    return state;
  }

  filterStep(state, action, frame) { return nextState(this.filter_step.run({ ...state, action, frame })); }
  imagineStep(state, action) { return nextState(this.imagine_step.run({ ...state, action })); }
  picture(state) { return this.decode.run(state).frame; }

  // The first two coordinates in the view of the latents.
  place(state) {
    const latent = this.vector.run(state).vector;
    return digits([0, 1].map((axis) => latent.reduce((sum, z, k) => sum + (z - this.view.mean[k]) * this.view.axes[k][axis], 0)), 3);
  }
}

// The true world (exporting/truth.py), and the dreams of it under the same actions; as play/live.py.
class SideBySide {
  constructor({ world, truth, dreams }, stored) {
    [this.world, this.starts] = [world, truth.starts];
    for (const [name, program] of Object.entries(truth.programs)) this[name] = new Program(program, stored);
    this.dreams = dreams.map((dream) => new Dreamer(dream, stored));
  }

  start(state = this.starts[Math.floor(Math.random() * this.starts.length)]) {
    this.state = Float32Array.from(state);
    const frames = [this.lookAt()], actions = [];
    for (let t = 0; t < this.world.context - 1; t++) {
      actions.push(this.pushed(0, t));
      this.move(actions.at(-1));
      frames.push(this.lookAt());
    }
    this.seen = this.dreams.map((dream) => dream.filter(frames, actions));
    this.steps = 0;
    return this.freshLook();
  }

  // All worlds one frame later.
  step(push) {
    const action = this.pushed(push, this.world.context - 1 + this.steps);
    this.move(action);
    const frame = this.lookAt();
    this.seen = this.dreams.map((dream, k) => dream.filterStep(this.seen[k], action, frame));
    this.dreamt = this.dreams.map((dream, k) => dream.imagineStep(this.dreamt[k], action));
    this.steps++;
    this.stepsDreamt++;
    return this.moment();
  }

  // The models dream on from what their filters make of the true frames; no time passes.
  freshLook() {
    [this.dreamt, this.stepsDreamt] = [this.seen, 0];
    return this.moment();
  }

  move(action) { this.state = this.step_world.run({ state: this.state, action }).next_state; }
  lookAt() { return this.picture.run({ state: this.state }).frame; }

  // The action of a person's push; as as_pushed of play/live.py.
  pushed(push, step) {
    const action = new Float32Array(this.world.choices), last = action.length - 1;
    if (this.world.discrete) action[push === 0 ? Math.floor((last + step % 2) / 2) : push > 0 ? last : 0] = 1;
    else action[0] = Math.max(-this.world.largest_action, Math.min(push, this.world.largest_action));
    return action;
  }

  moment() {
    return {
      truth: this.encoded(this.lookAt()),
      dreams: this.dreams.map((dream, k) => {
        const frame = dream.picture(this.dreamt[k]), [apart] = this.apart.run({ state: this.state, frame }).apart;
        return {
          picture: this.encoded(frame),
          at: dream.place(this.dreamt[k]),
          seen_at: dream.place(this.seen[k]),
          apart: Number((Number.isFinite(apart) ? apart : FARTHEST).toPrecision(4)),
          outside: null,
        };
      }),
      seconds: Number((this.steps * this.world.dt).toFixed(3)),
      seconds_dreamt: Number((this.stepsDreamt * this.world.dt).toFixed(3)),
      plan: null,
    };
  }

  // Base64 of a frame's bytes [H, W, 3]; of other than three channels the mean is shown.
  encoded(frame) {
    const channels = frame.length / (this.world.height * this.world.width);
    let text = "";
    for (let i = 0; i < frame.length; i += channels) {
      const pixel = frame.subarray(i, i + channels), mean = pixel.reduce((sum, value) => sum + value, 0) / channels;
      for (let k = 0; k < 3; k++) text += String.fromCharCode(Math.round(255 * ((channels === 3 ? pixel[k] : mean) || 0)));
    }
    return btoa(text);
  }
}

// Where the page has a websocket elsewhere.
class LocalServer extends EventTarget {
  readyState = WebSocket.OPEN;
  action = 0;
  asked = "reset";

  constructor() {
    super();
    this.show().catch((error) => {
      document.getElementById("closed").textContent = `This browser cannot run the model: ${error.message}`;
      document.getElementById("closed").hidden = false;
    });
  }

  set onmessage(hear) { this.addEventListener("message", hear); }

  send(message) {
    if (message === "reset" || message === "look") this.asked = this.asked === "reset" ? "reset" : message;
    else if (Number.isFinite(Number(message))) this.action = Number(message);
  }

  close() { this.readyState = WebSocket.CLOSED; }

  tell(message) { this.dispatchEvent(new MessageEvent("message", { data: JSON.stringify(message) })); }

  nextMoment() {
    const asked = this.asked;
    this.asked = "";
    if (asked === "reset") return this.worlds.start();
    return asked === "look" ? this.worlds.freshLook() : this.worlds.step(this.action);
  }

  async show() {
    const told = JSON.parse(document.getElementById("programs").textContent);
    this.worlds = new SideBySide(told, await unpacked(told.stored, document.getElementById("numbers").textContent));
    this.tell(told.world);
    const seconds = told.world.dt / told.world.speed, clock = () => performance.now() / 1000;
    for (let due = clock(); this.readyState === WebSocket.OPEN;) {
      if (document.hidden) await new Promise((seen) => document.addEventListener("visibilitychange", seen, { once: true }));
      this.tell(this.nextMoment());
      due = Math.max(due + seconds, clock() - LATEST);
      await new Promise((later) => setTimeout(later, 1000 * (due - clock())));
    }
  }
}

// The arrays of all constants, each with its type, its first byte and its length, from base64 of compressed bytes: the
// first bytes of all numbers, then their second ones, and so on.
async function unpacked(stored, base64) {
  const packed = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer()), length = planes.length / 4;
  const bytes = planes.map((_, i) => planes[(i % 4) * length + Math.floor(i / 4)]);
  return stored.map(([type, start, size]) => new TYPES[type](bytes.buffer, start, size));
}
