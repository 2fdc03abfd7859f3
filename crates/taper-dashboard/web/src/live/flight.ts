/** A function that runs `act`, never twice at once: what is asked for meanwhile is one more run after it. `act` tells of its errors itself. */
export function singleFlight(act: () => Promise<void>): () => Promise<void> {
  let wanted = false
  let flight: Promise<void> | undefined
  async function fly() {
    while (wanted) {
      wanted = false
      await act()
    }
    flight = undefined
  }
  return () => {
    wanted = true
    return (flight ??= fly())
  }
}
