// Stopping a run: says what it will touch and asks once (spec/08). No key does it.

import { say, setText } from "./page.js";

const ENDED = new Set(["completed", "completed_with_errors", "failed", "stopped"]);
const PATIENCE_MS = 10_000;
const byId = (id) => document.getElementById(id);

export class StopButton {
  #counts = {};
  #silent = { queued: 0, busy: 0 };

  constructor(runId) {
    this.url = `/api/runs/${runId}/stop`;
    this.button = byId("stop");
    this.dialog = byId("stop-ask");
    this.error = byId("stop-error");
    this.sure = byId("stop-now");
    this.button.addEventListener("click", () => this.#ask());
    this.sure.addEventListener("click", () => this.#stop());
  }

  /** The button is there while there is something to stop, and says that it was done. `silent`: as `Wall.silent`. */
  show({ status, counts, stop_requested_at: requestedAt }, silent) {
    this.#counts = counts;
    this.#silent = silent;
    this.button.hidden = ENDED.has(status);
    if (requestedAt) this.#requested();
    if (this.button.hidden) this.dialog.close();
    this.#tellTouches();
  }

  #tellTouches() {
    const { queued = 0, running = 0, waiting = 0 } = this.#counts;
    const touched = {
      queued: queued - this.#silent.queued,
      busy: running + waiting - this.#silent.busy,
      silent: this.#silent.queued + this.#silent.busy,
    };
    for (const line of byId("stop-touches").children) {
      const count = touched[line.dataset.t];
      line.hidden = !count;
      setText(line.firstElementChild, String(count));
    }
  }

  #ask() {
    setText(this.error, "");
    this.dialog.showModal();
  }

  #requested() {
    this.button.disabled = true;
    setText(this.button, say("stopping"));
  }

  async #stop() {
    this.sure.disabled = true;
    try {
      const answer = await fetch(this.url, { method: "POST", signal: AbortSignal.timeout(PATIENCE_MS) });
      if (!answer.ok) throw new Error((await answer.json()).detail || String(answer.status));
      this.#requested();
      this.dialog.close();
    } catch (error) {
      setText(this.error, say("stop_failed", { error: error.message }));
    } finally {
      this.sure.disabled = false;
    }
  }
}
