/** Which hosts are this machine itself. */

/** Whether an address or name, an IPv6 address with or without brackets, is reachable from this machine only. */
export function isLoopback(host: string): boolean {
  return (
    host === 'localhost' ||
    host === '::1' ||
    host === '[::1]' ||
    /^(?:::ffff:)?127(?:\.\d{1,3}){3}$/.test(host)
  )
}
