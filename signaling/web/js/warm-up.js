/**
 * What would otherwise make the first join slow, done while the person still looks at the lobby:
 * the browser starts its media engine, lists its codecs and makes a key pair.
 *
 * @returns {Promise<RTCCertificate|null>} for the connections to come
 */
export async function warmUp() {
  try {
    const certificate = await RTCPeerConnection.generateCertificate({ name: 'ECDSA', namedCurve: 'P-256' });
    const pc = new RTCPeerConnection({ certificates: [certificate] });
    pc.addTransceiver('audio');
    pc.addTransceiver('video');
    await pc.setLocalDescription();
    pc.close();
    return certificate;
  } catch {
    // Joining does all of it again, a little later.
    return null;
  }
}
