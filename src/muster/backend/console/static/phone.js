// The chosen phone: what it does, what went wrong, its steps, its output and its last screenshot. It is bound to the
// phone, so it stays while the wall around it changes.

import { duration, precise, say, setText, texts, timeOfDay } from "./page.js";
import { badgeText } from "./wall.js";

const GAP_MS = 700;
const STEP_LOOKS = { completed: "succeeded", skipped: "skipped_offline" };

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text != null) element.textContent = text;
  return element;
}

function badge(state, text) {
  const element = make("span", "badge");
  element.dataset.s = state;
  element.append(make("i", "g"), make("span", "", text));
  return element;
}

export class PhonePane {
  #task = null;
  #deviceId = "";
  #loading = null;
  #again = 0;
  #loadedAt = 0;
  #rows = new Map();
  #revealed = "";
  #log;

  constructor(runId) {
    this.runId = runId;
    this.pane = document.getElementById("phone");
    this.about = document.getElementById("about");
    this.title = document.getElementById("phone-id");
    this.at = Object.fromEntries([...this.pane.querySelectorAll("[data-f]")].map((element) => [element.dataset.f, element]));
    this.#log = new LogTail(this.at.log, this.at.follow);
  }

  /** Shows a phone. `task` may come later, with the snapshot. */
  show(deviceId, task) {
    if (deviceId !== this.#deviceId) {
      this.#start(deviceId);
      this.#loadSoon();
    }
    if (task) this.update(task);
  }

  /** Back to what is known of the run; `stranger` is a phone that was asked for and is not in it. */
  clear(stranger = "") {
    this.#start("");
    if (stranger) setText(this.about.querySelector(".hint"), say("not_in_run", { device: stranger }));
    this.pane.hidden = true;
    this.about.hidden = false;
  }

  #start(deviceId) {
    if (this.#deviceId) this.#blank();
    this.#deviceId = deviceId;
    this.#task = null;
    this.#loading?.abort();
    clearTimeout(this.#again);
    this.#loadedAt = 0;
    this.#rows.clear();
    this.#revealed = "";
    this.at.steps.replaceChildren();
    this.at.shot.replaceChildren();
    this.#log.clear();
    this.title.textContent = deviceId;
    this.pane.hidden = !deviceId;
    this.about.hidden = Boolean(deviceId);
  }

  /** Nothing of the phone before may be taken for this one's. */
  #blank() {
    const { at } = this;
    for (const field of [at.where, at.step, at.took]) setText(field, "");
    at.badge.replaceChildren();
    at.trouble.hidden = at.byhand.hidden = true;
  }

  update(task) {
    this.#task = task;
    const { at } = this;
    setText(at.where, [task.node_id, task.runtime_handle].filter(Boolean).join(" · "));
    if (at.badge.firstElementChild?.dataset.s !== task.status) at.badge.replaceChildren(badge(task.status, ""));
    setText(at.step, task.step_id ?? "");
    this.#showTrouble(task);
    if (task.artifact_id) this.#showShot(task.artifact_id, null);
    this.#log.live = task.ended_at == null;
    this.tick(task.updated_at);
    this.#loadSoon();
  }

  /** What changes with time alone: the countdown and how long it has been running. */
  tick(now) {
    const task = this.#task;
    if (!task) return;
    setText(this.at.badge.querySelector(".badge > span"), badgeText(task, now));
    const took = task.duration_ms ?? (task.started_at ? (task.ended_at ?? now) - task.started_at : null);
    const attempt = task.attempt > 1 ? `${say("attempt", { n: task.attempt })} · ` : "";
    setText(this.at.took, attempt + duration(took));
  }

  #showTrouble(task) {
    const { at } = this;
    at.trouble.hidden = !(task.failure_reason || task.error_message);
    at.trouble.dataset.s = task.status;
    const waits = task.status === "waiting";
    setText(at.reason, (waits ? texts.waiting : texts.reason)[task.failure_reason] ?? "");
    setText(at.error, task.error_message ?? "");
    setText(at.code, task.failure_reason ?? "");
    setText(at.class, waits ? "" : (texts.class[task.failure_class] ?? ""));
    at.byhand.hidden = !task.requires_manual_accessibility;
  }

  #showShot(artifactId, takenAt) {
    const { shot } = this.at;
    if (shot.dataset.id !== artifactId || !shot.firstElementChild) {
      shot.dataset.id = artifactId;
      const link = make("a");
      link.href = `/api/artifacts/${artifactId}`;
      link.target = "_blank";
      const image = make("img");
      image.decoding = "async";
      image.alt = say("shot_alt", { device: this.#deviceId });
      image.addEventListener("error", () => link.replaceWith(make("p", "muted", say("shot_error"))));
      image.src = link.href;
      link.append(image);
      shot.replaceChildren(link, make("figcaption", "muted"));
    }
    if (takenAt) setText(shot.querySelector("figcaption"), timeOfDay(takenAt));
  }

  // ---- steps ----

  /** One request at a time, and not more often than the eye can follow. */
  #loadSoon() {
    clearTimeout(this.#again);
    const wait = this.#loading ? GAP_MS : Math.max(0, this.#loadedAt + GAP_MS - performance.now());
    this.#again = setTimeout(() => (this.#loading ? this.#loadSoon() : this.#load()), wait);
  }

  async #load() {
    const deviceId = this.#deviceId;
    const aborter = (this.#loading = new AbortController());
    this.#loadedAt = performance.now();
    const url = `/api/runs/${this.runId}/steps?limit=200&device_id=${encodeURIComponent(deviceId)}`;
    try {
      const answer = await fetch(url, { signal: AbortSignal.any([aborter.signal, AbortSignal.timeout(10_000)]) });
      const body = await answer.json();
      if (!answer.ok) throw new Error(body.detail || body.title || String(answer.status));
      if (deviceId === this.#deviceId) this.#showSteps(body.steps);
    } catch (error) {
      if (deviceId === this.#deviceId && !aborter.signal.aborted) this.#showStepsError(error);
    } finally {
      if (this.#loading === aborter) this.#loading = null;
    }
  }

  #showStepsError(error) {
    this.#rows.clear();
    this.at.steps.replaceChildren(make("li", "muted note", say("steps_error", { error: error.message })));
  }

  #showSteps(steps) {
    if (!this.#rows.size) this.at.steps.replaceChildren();
    const isOver = this.#task?.ended_at != null;
    if (!steps.length) this.at.steps.replaceChildren(make("li", "muted note", isOver ? say("no_steps_at_all") : say("no_steps")));
    for (const step of steps) this.#showStep(step);
    this.#reveal(steps.find((step) => step.status === "failed") ?? steps.at(-1));
    const shots = steps.filter((step) => step.artifact).map((step) => step.artifact);
    const newest = shots.sort((a, b) => a.taken_at - b.taken_at).at(-1);
    if (newest) this.#showShot(newest.artifact_id, newest.taken_at);
    else if (!this.#task?.artifact_id && !this.at.shot.querySelector("a")) {
      this.at.shot.replaceChildren(make("p", "muted", isOver ? say("no_shot_at_all") : say("no_shot")));
    }
    this.#log.write(steps);
  }

  /** The failing step, else the newest, is in sight; a list that was scrolled by hand is left alone until that changes. */
  #reveal(step) {
    if (!step || step.step_id === this.#revealed) return;
    this.#revealed = step.step_id;
    const row = this.#rows.get(step.step_id);
    this.at.steps.scrollTop = row.offsetTop + row.offsetHeight - this.at.steps.clientHeight;
  }

  #showStep(step) {
    let row = this.#rows.get(step.step_id);
    if (!row) {
      row = make("li");
      row.append(make("i", "g"), make("b", "mono"), make("small", "muted"), make("time", "num muted"), make("span", "num"));
      this.#rows.set(step.step_id, row);
      this.at.steps.append(row);
    }
    const [, name, phase, began, took] = row.children;
    row.dataset.s = STEP_LOOKS[step.status] ?? step.status;
    const place = step.kind ? `${step.step_index + 1} ${step.step_id} (${step.kind})` : step.step_id;
    row.title = `${place}: ${texts.step[step.status]}`;
    setText(name, step.step_id);
    setText(phase, step.phase === step.step_id ? "" : step.phase);
    setText(began, step.started_at ? timeOfDay(step.started_at) : "");
    const tries = step.try_number > 1 ? `${step.try_number}× ` : "";
    setText(took, tries + (step.duration_ms == null ? texts.step[step.status] : precise(step.duration_ms)));
    this.#showStepError(row, step);
  }

  #showStepError(row, step) {
    const known = row.querySelector("p");
    if (!step.error_message) known?.remove();
    else setText(known ?? row.appendChild(make("p", "mono")), step.error_message);
  }
}

/** The output of all steps. Scrolling up pauses, the bottom resumes; new lines are counted meanwhile. */
class LogTail {
  #parts = new Map();
  #following = true;
  #missed = 0;

  constructor(box, button) {
    this.box = box;
    this.button = button;
    this.live = true;
    box.addEventListener("scroll", () => this.#onScroll());
    button.addEventListener("click", () => (this.#following ? this.#set(false) : this.#toEnd()));
  }

  clear() {
    this.#parts.clear();
    this.box.replaceChildren();
    this.#set(true);
  }

  write(steps) {
    const first = !this.#parts.size;
    // The position itself, not the last scroll event: that may still be on its way, and the reader be pulled down.
    if (!first && !this.#isAtEnd()) this.#set(false);
    let failing = null;
    for (const step of steps) {
      const text = step.log_snippet ?? "";
      if (!text && step.status !== "failed") continue;
      const part = this.#part(step);
      if (step.status === "failed") failing = part;
      const body = part.lastElementChild;
      if (body.textContent === text) continue;
      this.#missed += Math.max(0, text.split("\n").length - body.textContent.split("\n").length);
      setText(body, text);
    }
    if (!this.#parts.size) this.box.textContent = say("no_log");
    else if (first && failing?.nextElementSibling) this.box.scrollTop = failing.offsetTop + failing.offsetHeight - this.box.clientHeight;
    else if (this.#following) this.#toEnd();
    this.#set(this.#following);
  }

  #part(step) {
    const known = this.#parts.get(step.step_id);
    const exit = step.exit_code ? ` · ${say("exit_code", { code: step.exit_code })}` : "";
    if (known) {
      setText(known.firstElementChild, step.step_id + exit);
      return known;
    }
    if (!this.#parts.size) this.box.replaceChildren();
    const part = make("span", step.status === "failed" ? "bad" : "");
    part.append(make("b", "", step.step_id + exit), make("span"));
    this.#parts.set(step.step_id, part);
    this.box.append(part);
    return part;
  }

  #toEnd() {
    this.box.scrollTop = this.box.scrollHeight;
    this.#set(true);
  }

  #onScroll() {
    const atEnd = this.#isAtEnd();
    if (atEnd !== this.#following) this.#set(atEnd);
  }

  #isAtEnd() {
    return this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < 8;
  }

  #set(following) {
    this.#following = following;
    if (following) this.#missed = 0;
    const scrolls = this.box.scrollHeight > this.box.clientHeight + 8;
    this.button.hidden = !this.live || !scrolls;
    this.button.setAttribute("aria-pressed", String(following));
    const paused = this.#missed ? say("paused_new", { n: this.#missed }) : say("paused");
    this.button.textContent = following ? say("following") : paused;
  }
}
