/** Who uses the pointer finds all keys at the picture; who uses keys keeps the focus where it is. */

const PRESSED = "button, summary, a, input[type=range]";
const CHOSEN = "select, input[type=range], input[type=color]";

/** Let go of every control that was used with the pointer, on the whole window; return what ends it. */
export function listenToFocus(): () => void {
  let byPointer = false;
  const point = () => (byPointer = true);
  const press = () => (byPointer = false);
  const letGo = ({ type, target }: Event) => {
    const control = (target as Element).closest<HTMLElement>(type === "click" ? PRESSED : CHOSEN);
    if (byPointer && control && control === document.activeElement) control.blur();
  };
  window.addEventListener("pointerdown", point, { capture: true });
  window.addEventListener("keydown", press, { capture: true });
  window.addEventListener("click", letGo);
  window.addEventListener("change", letGo);
  return () => {
    window.removeEventListener("pointerdown", point, { capture: true });
    window.removeEventListener("keydown", press, { capture: true });
    window.removeEventListener("click", letGo);
    window.removeEventListener("change", letGo);
  };
}
