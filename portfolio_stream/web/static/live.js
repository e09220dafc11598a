// The stream of events from the worker that served this page. A browser reconnects by itself after a broken line; what
// it gives up on (an answer that is no stream) and a stream that falls silent, we open again.

const SILENT_MS = 6_000; // the worker says something every second, and a heartbeat after five
const AGAIN_MS = 2_000;

export class Live {
  #source = null;
  #handlers;
  #changed;
  #timer = null;
  #heard = 0;

  /** `handlers` by event name; `changed(isOpen)` at each change of the connection. */
  constructor(handlers, changed) {
    this.#handlers = handlers;
    this.#changed = changed;
    setInterval(() => this.#listenForSilence(), 1_000);
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#close() : this.open()));
  }

  open() {
    if (document.hidden) return; // a page that nobody sees holds no connection
    this.#close();
    const source = new EventSource("/live");
    this.#source = source;
    this.#heard = performance.now();
    for (const [name, handler] of Object.entries(this.#handlers)) {
      source.addEventListener(name, (event) => {
        if (source !== this.#source) return;
        this.#heard = performance.now();
        this.#changed(true);
        handler(JSON.parse(event.data));
      });
    }
    source.addEventListener("error", () => {
      if (source !== this.#source) return;
      this.#changed(false);
      if (source.readyState === EventSource.CLOSED) this.#againAfterAnswer();
    });
  }

  #close() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  #listenForSilence() {
    if (this.#source && performance.now() - this.#heard > SILENT_MS) {
      this.#changed(false);
      this.open();
    }
  }

  /** An answer that is no stream: our session is over (then the login is shown), or the worker is too busy. */
  #againAfterAnswer() {
    this.#close();
    this.#timer = setTimeout(async () => {
      const answer = await fetch("/worker").catch(() => null);
      if (answer?.status === 401) location.reload();
      else this.open();
    }, AGAIN_MS);
  }
}
