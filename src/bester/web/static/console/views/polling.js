/**
 * Asks the server again and again, while the page is visible.
 *
 * @template Result
 * @param {() => Promise<Result>} load
 * @param {(result: Result) => void} show called only with a result that differs from the last
 * @param {(error: Error) => void} failed
 * @param {number} [everyMs]
 */
export function poll(load, show, failed, everyMs = 3000) {
  let stopped = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  let last = "";
  let turn = 0;
  const once = async () => {
    clearTimeout(timer);
    const mine = (turn += 1);
    try {
      if (!document.hidden || !last) {
        const result = await load();
        const text = JSON.stringify(result);
        if (!stopped && mine === turn && text !== last) {
          last = text;
          show(result);
        }
      }
    } catch (error) {
      if (!stopped && mine === turn) {
        last = "";
        failed(error);
      }
    }
    if (!stopped && mine === turn) timer = setTimeout(once, everyMs);
  };
  once();
  return {
    now: once,
    stop() {
      stopped = true;
      clearTimeout(timer);
    },
  };
}
